"""The description of the API, as OpenAPI 3.1. A test holds the routes against it."""

from typing import Any, Final

_RUN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string"},
        "reason": {"type": "string"},
        "playbook": {"type": "string"},
        "playbook_version": {"type": "string"},
        "target": {"type": "string"},
        "step": {"type": "integer", "description": "The rung of the ladder, from 1."},
        "episode": {"type": "integer"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "created_at": {"type": "string", "format": "date-time"},
        "finished_at": {"type": ["string", "null"], "format": "date-time"},
    },
}
_ASKED: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "What people are asked now: an answer names the plan. Null if nothing is asked.",
    "properties": {
        "plan": {"type": "string"},
        "command": {"type": "string"},
        "until": {"type": "string", "format": "date-time"},
    },
}
_ONE_RUN: dict[str, Any] = {**_RUN, "properties": {**_RUN["properties"], "asked": _ASKED}}
_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["plan", "why"],
    "properties": {
        "plan": {"type": "string", "description": "The plan that the run asks about, as it shows it."},
        "why": {"type": "string"},
        "by": {"type": "string", "description": "If given, the name of the token: nobody answers in another's name."},
    },
}
_BREAKER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "playbook": {"type": "string"},
        "target": {"type": "string", "description": "Empty for the breaker of the whole playbook."},
        "state": {"type": "string", "enum": ["open", "half-open"]},
        "open_until": {"type": "string", "format": "date-time", "description": "From then on one trial is let through."},
        "opened_times": {"type": "integer"},
    },
}
_RESET: dict[str, Any] = {
    "type": "object",
    "required": ["why"],
    "properties": {
        "target": {"type": "string", "description": "Whose breaker. This or `playbook`."},
        "playbook": {"type": "string"},
        "by": {"type": "string", "description": "Who; the operator's name is taken where a token says it."},
        "why": {"type": "string"},
    },
}
_PATH_RUN: dict[str, Any] = {"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}
_ROW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "kind": {"type": "string"},
        "step": {"type": "integer"},
        "text": {"type": "string", "description": "The row in words; empty if it says nothing to a person."},
        "data": {"type": "object"},
    },
}
_SWITCH: dict[str, Any] = {
    "type": "object",
    "required": ["why"],
    "properties": {
        "by": {"type": "string", "description": "Who; the operator's name is taken where a token says it."},
        "why": {"type": "string"},
    },
}


def _answers(what: str, schema: dict[str, Any] | None = None, **others: str) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    refusals = {code.removeprefix("_"): {"description": why} for code, why in others.items()}
    return {"200": {"description": what, **content}, **refusals}


def _command(what: str, schema: dict[str, Any], **others: str) -> dict[str, Any]:
    refusals = {"_400": "Something is missing.", "_401": "No operator.", "_503": "No store.", **others}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"post": {"summary": what, "requestBody": body, "responses": _answers("Done, and on record.", None, **refusals)}}


def _answer(what: str) -> dict[str, Any]:
    command = _command(
        what,
        _ANSWER,
        _403="Another's name; or no operators are configured, so that nobody has a name here.",
        _404="There is no such run.",
        _409="It asks nothing now, has been answered, asked until an earlier time, or asks about another plan, which is shown.",
    )
    return {"post": {**command["post"], "parameters": [_PATH_RUN]}}


OPENAPI: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Remediator", "version": "1"},
    "paths": {
        "/webhook": {
            "post": {
                "summary": "Take a webhook message of Alertmanager (version 4) or Grafana (version 1).",
                "responses": _answers(
                    "The alerts are stored.",
                    _400="Not a message.",
                    _401="Not authenticated.",
                    _408="The body did not arrive in time.",
                    _413="The body is too large.",
                    _415="The body is compressed.",
                    _503="The alerts cannot be stored now; send them again.",
                ),
            }
        },
        "/api/v1/runs": {
            "get": {
                "summary": "Runs, the newest first.",
                "parameters": [
                    {"name": "state", "in": "query", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
                ],
                "responses": _answers(
                    "Runs.",
                    {"type": "object", "properties": {"runs": {"type": "array", "items": _RUN}}},
                    _400="A bad parameter.",
                ),
            }
        },
        "/api/v1/runs/{run}": {
            "get": {
                "summary": "One run and its timeline.",
                "parameters": [_PATH_RUN],
                "responses": _answers(
                    "The run.",
                    {"type": "object", "properties": {"run": _ONE_RUN, "timeline": {"type": "array", "items": _ROW}}},
                    _404="There is no such run.",
                ),
            }
        },
        "/api/v1/runs/{run}/approve": _answer("Let the plan that is asked about be carried out, once."),
        "/api/v1/runs/{run}/reject": _answer("Refuse the plan that is asked about."),
        "/api/v1/breakers": {
            "get": {
                "summary": "Breakers that are not closed.",
                "responses": _answers(
                    "Breakers.", {"type": "object", "properties": {"breakers": {"type": "array", "items": _BREAKER}}}
                ),
            }
        },
        "/api/v1/breaker/reset": _command(
            "Close a breaker, and take up the alerts that it left to people, as far as they fire.",
            _RESET,
            _409="There is nothing to reset.",
        ),
        "/api/v1/pause": _command("Stop acting: every run waits until resumed.", _SWITCH),
        "/api/v1/resume": _command("Go on acting.", _SWITCH),
        "/api/v1/openapi.json": {"get": {"summary": "This document.", "responses": _answers("OpenAPI 3.1.")}},
        "/-/reload": {
            "post": {
                "summary": "Load the playbooks anew.",
                "responses": _answers("The new ones are in force.", _422="They are bad; the old ones are kept."),
            }
        },
        "/-/healthy": {"get": {"summary": "Whether the process answers.", "responses": _answers("It does.")}},
        "/-/ready": {
            "get": {
                "summary": "Whether it can take and handle alerts.",
                "responses": _answers("It can.", _503="It cannot; the text says why."),
            }
        },
        "/metrics": {"get": {"summary": "Metrics in Prometheus's text format.", "responses": _answers("Metrics.")}},
    },
}
