"""One replay as a page that needs nothing else: pictures, curves and tables in one HTML file."""
