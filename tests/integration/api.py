"""A client that holds every answer against the schema, for tests of the API."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import unquote

import jsonschema  # type: ignore[import-untyped]
from django.contrib.auth.models import Permission, User
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

BASE = "/api/v1/saga/"


@cache
def schema() -> dict[str, Any]:
    """The schema as it is served."""
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


class Api:
    """Asks, and checks that each answer is one that the schema tells of. `login` is a user's name, or nobody."""

    def __init__(self, user: User | None = None) -> None:
        self.client = Client(raise_request_exception=True)
        if user is not None:
            self.client.force_login(user)

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: Any) -> Any:
        # The server tells the address as it was sent; the test client only if told to.
        sent = f"{BASE}{path}"
        answer = self.client.get(
            unquote(sent), query or {}, RAW_URI=sent, headers={"accept": "application/json"}, **headers
        )
        hold(answer, "get", sent)
        return answer

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        sent = f"{BASE}{path}"
        answer = self.client.post(
            sent,
            body if body is not None else {},
            "application/json",
            headers={"accept": "application/json", **headers},
        )
        hold(answer, "post", sent)
        return answer


def hold(answer: Any, method: str, sent: str) -> None:
    """Raises where the schema does not tell of this answer."""
    assert answer["Content-Type"] == "application/json", answer.content[:200]
    operation = _operation(method, sent)
    told = operation["responses"].get(str(answer.status_code))
    assert told is not None, f"{method} {sent}: {answer.status_code} is not in the schema: {answer.content[:300]}"
    form = told["content"]["application/json"]["schema"]
    jsonschema.Draft7Validator({**_draft7(form), "components": _draft7(schema()["components"])}).validate(answer.json())


def _operation(method: str, sent: str) -> Any:
    path = sent.removesuffix("/")
    for address, operations in schema()["paths"].items():
        last = ".+" if "by-" in address else "[^/]+"
        pattern = re.sub(r"\\\{\w+\\\}", last, re.escape(address))
        if re.fullmatch(pattern, path) and method in operations:
            if "{" in address and path in schema()["paths"]:
                continue
            return operations[method]
    raise AssertionError(f"the schema has no {method} {sent}")


def _draft7(node: Any) -> Any:
    """OpenAPI 3.0 as JSON schema: nullable becomes a type, and no further property than those told is allowed."""
    if isinstance(node, list):
        return [_draft7(item) for item in node]
    if not isinstance(node, dict):
        return node
    new = {name: _draft7(value) for name, value in node.items() if name != "nullable"}
    if new.get("type") == "object" and "properties" in new and "additionalProperties" not in new:
        new["additionalProperties"] = False
    if node.get("nullable"):
        return {"anyOf": [new, {"type": "null"}]}
    return new


def user(name: str, *permissions: str) -> User:
    """A login with these permissions of the app sagas."""
    found = User.objects.create_user(name)
    found.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="sagas"))
    return found


def viewer() -> User:
    return user("vera", "view_sagalog")


def operator() -> User:
    return user("olga", "view_sagalog", "operate_saga")
