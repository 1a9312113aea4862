from __future__ import annotations


def write_page(found, most):
    pass
