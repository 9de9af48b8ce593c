"""Bags whose chunks carry a checksum, by which whoever reads them notices a flipped bit. rosbags writes 0: unknown."""

from __future__ import annotations

import zlib

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

# Of a chunk record the opcode, the record's length, first and last time, and the content's length come before it:
# https://mcap.dev/spec#chunk-op0x06.
_OFFSET = 1 + 4 * 8
_BYTES = 4


class _Storage(McapWriter):
    def close_chunk(self) -> None:
        begin = self.bio.tell()
        checksum = zlib.crc32(self.chunk.bio.getbuffer())
        super().close_chunk()
        end = self.bio.tell()
        self.bio.seek(begin + _OFFSET)
        self.bio.write(checksum.to_bytes(_BYTES, "little"))
        self.bio.seek(end)


class ChecksummedWriter(Writer):
    """rosbags' writer, with the checksums."""

    STORAGE_PLUGINS = {**Writer.STORAGE_PLUGINS, StoragePlugin.MCAP: _Storage}  # noqa: RUF012  # as rosbags has it
