# Development, and the demo, on a machine without ROS 2: everything lives in .venv, made by the first target you run.
# On a robot with ROS 2, use rosdep and colcon instead (README).
#   PYTHON=python3.12   the interpreter that .venv is made from
#   PIP_ARGS=...        more arguments for pip, such as an index of your own
SHELL := /bin/bash
PYTHON ?=
PIP_ARGS ?=
STAMP := .venv/.installed
BIN := .venv/bin
export PYTHONNOUSERSITE := 1
export PYTHON PIP_ARGS

# A sourced ROS 2 brings its own rclpy, for its own Python; .venv must not pick up half of it.
ifdef ROS_DISTRO
unexport PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH RMW_IMPLEMENTATION
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench test-numpy1 test-long clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP)  ## make .venv and install what constraints.txt pins (again only when that changed)

$(STAMP): constraints.txt setup.py package.xml scripts/setup.sh scripts/check_gl.py
	@scripts/setup.sh
	@touch $@

demo: $(STAMP)  ## three tasks by sentence, in simulation, over real ROS 2; results in runs/
	@$(BIN)/vla_ros demo

test: lint  ## lint, and every test but the long ones
	@echo "== tests without nodes, one on each core"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile test/unit test/model test/launch; \
	status=$$?; \
	echo "== tests with real nodes, which have the machine to themselves"; \
	$(BIN)/python -m pytest test/ros && exit $$status

lint: $(STAMP)  ## ruff and mypy
	@echo "== ruff, mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file test/mypy.ini

bench: $(STAMP)  ## the numbers of the README, each beside what it is compared with
	@$(BIN)/python -m bench

test-long: $(STAMP)  ## the tests that take minutes
	@$(BIN)/python -m pytest -m long --timeout 1800

test-numpy1: $(STAMP)  ## the unit tests under NumPy 1.26 (apt's and ROS's), in a throw-away environment
	@$(BIN)/python -m pytest -m long --timeout 1800 test/unit/test_numpy1.py

clean:  ## remove .venv and everything built; runs/ stays
	rm -rf .venv build install log dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis MUJOCO_LOG.TXT
	find vla_ros bench test launch -name __pycache__ -type d -prune -exec rm -rf {} +
