"""The line that makes a machine a device: it needs python3 and a POSIX shell, and nothing else.

The agent is fetched from the gateway, compared with the hash in the line, and only then run. So the certificate
need not be verified here; the agent does that itself, by the token, before it says anything secret.
"""

import shlex

from retire_cluster.zipapp import NAME

TOKEN_VARIABLE = "RETIRE_CLUSTER_JOIN_TOKEN"  # noqa: S105 where the token is, not the token
MOST_BYTES = "1<<24"  # that are read from whoever answers
MISMATCH = (
    "what came is not the agent this line names: cut short, changed on the way, or the server is of another "
    "version now; copy the line anew from its page Add a device"
)
# It goes between single quotes, so it holds none. Isolated (-I): no module beside it is taken for the library's.
_CODE = (
    "import hashlib,http.client as h,io,ssl,sys,zipfile;a=sys.argv[2];"
    'sys.excepthook=lambda t,e,_:sys.exit("cannot fetch the agent from "+a+": "+str(e));'
    'c={connection};c.request("GET","/{name}");b=c.getresponse().read({most});'
    'hashlib.sha256(b).hexdigest()=="{sha256}"or sys.exit("{mismatch}");'
    'exec(zipfile.ZipFile(io.BytesIO(b)).read("join.py"))'
)
_PLAIN = "h.HTTPConnection(a,timeout=30)"
_TLS = "h.HTTPSConnection(a,timeout=30,context=ssl._create_unverified_context())"


def join_line(address: str, *, tls: bool, sha256: str, token: str = "") -> str:
    """The line for a gateway at HOST:PORT that serves the agent of this hash. A known device needs no token.

    The token is in a variable: what stands in a command's arguments is shown to everybody by `ps`.
    """
    code = _CODE.format(
        connection=_TLS if tls else _PLAIN, name=NAME, most=MOST_BYTES, sha256=sha256, mismatch=MISMATCH
    )
    given = f"{TOKEN_VARIABLE}={shlex.quote(token)} " if token else ""
    return f"{given}python3 -Ic '{code}' --join {shlex.quote(address)}"
