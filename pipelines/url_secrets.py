"""Credentials in URLs: found before a URL is used or saved, and taken out of whatever is printed.

Input: a URL, or any text with URLs in it. Does: looks for users, passwords, signatures and tokens.
Output: what was found, by its name only; or the text without it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

# A signature, a token or a password in a query, as S3, Google, Azure, CloudFront, Alibaba, Tencent and APIs name them.
_SECRET_NAME = re.compile(
    r"signature|credential|token|secret|passw|pwd|api[-_]?key|access[-_]?key|accesskeyid|googleaccessid|key-pair-id"
    r"|authorization|^(sig|auth|jwt|bearer|hmac|q-ak)$",
    re.IGNORECASE,
)
# A secret may hold slashes, and after a port (digits, then a slash) an @ is an innocent part of the path.
_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:(?!\d+/)[^@\s]*@")
_USER = re.compile(r"(?<=://)[^/@\s?#]*@")
# What stands before @ names a container or a login there, and no secret.
_NAMED_USERS = ("abfs", "abfss", "wasb", "wasbs", "sftp", "ssh", "hdfs", "webhdfs", "smb")
_QUERY = re.compile(r"(?<=[?&;#])([^=&;#\s'\"<>]+)=([^&;#\s'\"<>)\]]*)")
_URL = re.compile(r"[A-Za-z0-9+.-]+://\S*")


def secret_in(url: str) -> str | None:
    """What of a URL is a credential: ``a user or a password``, or a parameter's name; None if nothing is."""
    if "://" not in url:
        return None
    if _PASSWORD.search(url) or (not _names_users(url) and _USER.search(url)):
        return "a user or a password"
    names = (unquote(name) for name, _ in _QUERY.findall(url))
    return next((f"'{name}'" for name in names if _SECRET_NAME.search(name)), None)


def _names_users(url: str) -> bool:
    return url.lower().rpartition("::")[2].startswith(tuple(f"{name}://" for name in _NAMED_USERS))


def redact_secrets(text: str) -> str:
    """Text whose URLs carry no user, no password and no value of a parameter that is a credential."""
    return _URL.sub(lambda match: _without(match[0]), text)


def _without(url: str) -> str:
    url = _PASSWORD.sub("", url)
    url = url if _names_users(url) else _USER.sub("", url)
    return _QUERY.sub(lambda part: f"{part[1]}=..." if _SECRET_NAME.search(unquote(part[1])) else part[0], url)
