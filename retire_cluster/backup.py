"""Backups: one file with all rows and secrets, the same for SQLite and Postgres, so it moves clusters between them.

A backup is a zip: `manifest.json`, a JSON line per row in `rows/<model>.jsonl`, and the secrets of the data
directory in `files/`. Rows are read in one snapshot while the cluster goes on. They fit the schema of the version
that wrote them: a restore builds that schema, fills it, and only then migrates to today's.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from django.apps import apps
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from retire_cluster import __version__, bulk, datadir, db

FORMAT = 1
SECRETS = ("secret-key", "api-key", "join-token", "gateway-certificate.pem", "gateway-key.pem")
# Sign-ins end with a restore, and so does the stream of events.
_LEFT_OUT = frozenset(
    {"sessions.session", "events.eventbatch", "clusterconfig.streamticket", "clusterconfig.signinlink"}
)
_BATCH = 500
_MANIFEST = "manifest.json"


class BackupError(RuntimeError):
    """It cannot be done; the message says why and what to do. Nothing was changed."""


# --- writing --------------------------------------------------------------------------------------------------


def write(file: Path, directory: Path, *, now: datetime, replace: bool = False) -> dict[str, int]:
    """Write a backup, readable by this account only. Returns the number of rows by model. Raises BackupError."""
    if file.exists() and not replace:
        raise BackupError(f"{file} exists; choose another name, or --force to replace it")
    draft = file.with_name(f".{file.name}-{uuid4().hex[:8]}")
    try:
        with _private(draft) as stream:
            counts = _write(stream, directory, now)
        os.replace(draft, file)
        _sync_directory(file.absolute().parent)
    except OSError as error:
        raise BackupError(f"cannot write {file}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return counts


def _write(stream: IO[bytes], directory: Path, now: datetime) -> dict[str, int]:
    counts: dict[str, int] = {}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, _snapshot():
        for model in _models(apps):
            name = model._meta.label_lower
            with archive.open(f"rows/{name}.jsonl", "w", force_zip64=True) as rows:
                counts[name] = sum(rows.write(line) > 0 for line in _lines(model))
        for secret in SECRETS:
            if (directory / secret).exists():
                archive.write(directory / secret, f"files/{secret}")
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "created_at": now.isoformat(),
            "engine": connection.vendor,
            "migrations": sorted(MigrationRecorder(connection).applied_migrations()),
            "rows": counts,
        }
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=1))
    return counts


@contextmanager
def _private(file: Path) -> Iterator[IO[bytes]]:
    """A new file nobody else may read, on the medium when this ends well."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _snapshot() -> Iterator[None]:
    """All reads see one moment, and nobody waits for them."""
    if db.is_sqlite():
        # Not atomic(): its transactions begin with the writer's lock.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def _models(registry: Any) -> list[type[models.Model]]:
    found = registry.get_models(include_auto_created=True)
    return [
        model
        for model in found
        if model._meta.managed and not model._meta.proxy and model._meta.label_lower not in _LEFT_OUT
    ]


def _lines(model: type[models.Model]) -> Iterator[bytes]:
    names = [field.attname for field in model._meta.concrete_fields]
    rows = model._base_manager.order_by("pk").values_list(*names)
    for row in rows.iterator(chunk_size=_BATCH):
        yield (
            json.dumps(dict(zip(names, row, strict=True)), cls=_Encoder, ensure_ascii=False).encode() + b"\n"
        )


class _Encoder(DjangoJSONEncoder):
    """Django's cuts moments to milliseconds."""

    def default(self, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else super().default(value)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: rows by model, and where the database of before is kept, if there was one on SQLite."""

    counts: dict[str, int]
    kept: Path | None


def restore(file: Path, directory: Path) -> Restored:
    """Put a backup in place of all there is. Call it with the locks of the data directory held.

    Raises BackupError. On Postgres all of it is one transaction; on SQLite the old file is kept aside, and put back
    when something fails.
    """
    try:
        with closing(zipfile.ZipFile(file)) as archive:
            manifest = _manifest(archive)
            with _empty_database() as kept:
                counts = _fill(archive, manifest)
                if counts != manifest["rows"]:
                    raise BackupError("the backup is damaged: it does not hold the rows its manifest names")
            call_command("migrate", interactive=False, verbosity=0)
            _begin_new_life()
            _restore_files(archive, directory)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise BackupError(f"cannot read {file}: {error}") from None
    return Restored(counts, kept)


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(archive.read(_MANIFEST))
    if manifest["format"] != FORMAT:
        raise BackupError(f"the backup has format {manifest['format']}, this version reads {FORMAT}")
    known = MigrationLoader(None).disk_migrations
    newer = [
        f"{app}.{name}"
        for app, name in manifest["migrations"]
        if app in _labels() and (app, name) not in known
    ]
    if newer:
        raise BackupError(
            f"the backup was made by a newer version, {manifest['version']} (it has {', '.join(newer)}): "
            "install that one"
        )
    return manifest


def _labels() -> set[str]:
    return {config.label for config in apps.get_app_configs()}


@contextmanager
def _empty_database() -> Iterator[Path | None]:
    """A database without a table, and where the old one is kept; should filling it fail, that is there again."""
    if not db.is_sqlite():
        with transaction.atomic():
            _drop_tables()
            yield None
        return
    path = Path(str(connection.settings_dict["NAME"]))
    kept = path.with_name(f"before-restore-{uuid4().hex[:8]}.sqlite3")
    connection.close()
    db.fold_log()  # so that what is kept is one file
    _move(path, kept)
    try:
        yield kept if kept.exists() else None
    except BaseException:
        connection.close()
        _move(kept, path)
        raise


def _move(database: Path, to: Path) -> None:
    """The SQLite file with its log, if there is one: that holds what is not in the file yet."""
    for suffix in ("-shm", "-wal", ""):
        source, target = Path(f"{database}{suffix}"), Path(f"{to}{suffix}")
        target.unlink(missing_ok=True)
        if source.exists():
            source.replace(target)


def _drop_tables() -> None:
    wanted = {model._meta.db_table for model in apps.get_models(include_auto_created=True)} | {
        "django_migrations"
    }
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table in wanted:
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)} CASCADE")


def _fill(archive: zipfile.ZipFile, manifest: dict[str, Any]) -> dict[str, int]:
    """Build the schema the rows were written under, and insert them."""
    executor = MigrationExecutor(connection)
    targets = _targets(executor, manifest)
    executor.migrate(targets)
    state = executor.loader.project_state(targets)
    counts = {}
    with transaction.atomic():
        _judge_references_at_the_end()
        for model in _models(state.apps):
            _clear(model)
        for model in _models(state.apps):
            name = f"rows/{model._meta.label_lower}.jsonl"
            if name in archive.namelist():
                with archive.open(name) as lines:
                    counts[model._meta.label_lower] = _insert(model, lines)
        _reset_sequences(_models(state.apps))
    return counts


def _judge_references_at_the_end() -> None:
    """Rows come model by model. Migrations of this transaction made PostgreSQL judge some references at once."""
    if not db.is_sqlite():
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def _targets(executor: MigrationExecutor, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The last migration of each app the backup knew."""
    applied = {(app, name) for app, name in manifest["migrations"]} & executor.loader.graph.nodes.keys()
    return sorted(
        node
        for node in applied
        if not any(child in applied and child[0] == node[0] for child in _children(executor, node))
    )


def _children(executor: MigrationExecutor, node: tuple[str, str]) -> Iterable[tuple[str, str]]:
    return (child.key for child in executor.loader.graph.node_map[node].children)


def _clear(model: type[models.Model]) -> None:
    """Migrations put rows of their own into some tables."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608 a model's name


def _insert(model: type[models.Model], lines: IO[bytes]) -> int:
    fields = list(model._meta.concrete_fields)
    names = [field.attname for field in fields]
    count, batch = 0, []
    for line in lines:
        row = json.loads(line)
        batch.append([_value(field, row.get(field.attname)) for field in fields])
        count += 1
        if len(batch) >= _BATCH:
            bulk.insert_rows(model, names, batch)
            batch = []
    bulk.insert_rows(model, names, batch)
    return count


def _value(field: Any, value: Any) -> Any:
    """A JSON value as the field's Python value; JSON fields hold theirs as it is."""
    target = field.target_field if field.is_relation else field
    return value if isinstance(target, models.JSONField) else target.to_python(value)


def _reset_sequences(found: list[type[models.Model]]) -> None:
    """Postgres numbers new rows from a counter that the inserted ones did not move."""
    from django.core.management.color import no_style

    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), found):
            cursor.execute(statement)


def _begin_new_life() -> None:
    """Whoever remembers the old one can tell; and nobody is connected any more."""
    from clusterconfig.models import ClusterIdentity
    from devices.models import Device, Gateway

    with db.write_transaction():
        ClusterIdentity.objects.update(incarnation=uuid4())
        now = db.now()
        Gateway.objects.filter(stopped_at=None).update(stopped_at=now)
        Device.objects.filter(online=True).update(
            online=False, status_reason="the cluster was restored from a backup", disconnected_at=now
        )


def _restore_files(archive: zipfile.ZipFile, directory: Path) -> None:
    for secret in SECRETS:
        if f"files/{secret}" in archive.namelist():
            datadir.write_private(directory / secret, archive.read(f"files/{secret}").decode().rstrip("\n"))
