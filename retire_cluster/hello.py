"""The first task of a new cluster: one echo over REST, as a client would send it."""

import json
import ssl
import time
import urllib.error
import urllib.request

PATIENCE_S = 30


def first_echo(base_url: str, began: float) -> str:
    """Submit an echo, wait for its end, and say in lines for a person how it went. `began` is monotonic."""
    body = json.dumps({"task_type": "echo", "payload": {"message": "Hello World"}}).encode()
    request = urllib.request.Request(  # noqa: S310 the address is this process's own
        f"{base_url}/api/v1/tasks?wait={PATIENCE_S}", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        task_id = _data(request)["task_id"]
        result = _data(f"{base_url}/api/v1/tasks/{task_id}/result")
    except (OSError, ValueError, KeyError) as error:
        return f"First task  could not be run: {_words(error)}\n            GET {base_url}/health says more"
    return (
        f"First task  echo {task_id}\n"
        f"            {result['status']} on {result['worker_device_id']}: {json.dumps(result['result_data'])}\n"
        f"            {time.monotonic() - began:.1f} s after the start; stop with Ctrl-C\n"
    )


def _data(request: urllib.request.Request | str) -> dict[str, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # this process's own listener
    with urllib.request.urlopen(request, timeout=PATIENCE_S + 5, context=context) as answer:  # noqa: S310
        data: dict[str, str] = json.load(answer)["data"]
        return data


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
    return str(error)
