"""Bytes at URLs: disks, S3 and what else fsspec knows. This package knows nothing about video."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.store.objects import (
    check_writable,
    create_exclusive,
    delete,
    exists,
    glob,
    list_files,
    list_folders,
    read_bytes,
    read_ranges,
    size_and_tag,
    write_bytes,
)
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.store.urls import (
    absolute,
    check_url,
    filesystem,
    inside,
    is_folder_name,
    is_local,
    join,
    redact_url,
)
from adaptfocus.pipelines.store.walk import Found, delete_files, files_below, listed_below

if TYPE_CHECKING:
    from adaptfocus.pipelines.store.tables import read_table, write_table

__all__ = [
    "Found",
    "RangeFile",
    "ReadConfig",
    "absolute",
    "check_url",
    "check_writable",
    "create_exclusive",
    "delete",
    "delete_files",
    "exists",
    "files_below",
    "filesystem",
    "glob",
    "inside",
    "is_folder_name",
    "is_local",
    "join",
    "list_files",
    "list_folders",
    "listed_below",
    "open_member",
    "read_ahead",
    "read_bytes",
    "read_ranges",
    "read_table",
    "redact_url",
    "size_and_tag",
    "write_bytes",
    "write_table",
]
__getattr__ = lazily(
    __name__,
    {
        "tables": (
            "read_table",
            "write_table",
        )
    },
)
