"""One file -> the table of its packets, with the proof that reading by it gives the frames a decoder gives."""

from adaptfocus.pipelines.inspection.packet_table import read_packet_table

__all__ = ["read_packet_table"]
