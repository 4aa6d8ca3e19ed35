"""What the hub's clients raise, as one line; the only place that knows their exceptions. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from molex_cli.errors import DataError, ModelError, MolexError, reason_of
from molex_cli.models.hub import connection
from molex_cli.records.disk import disk_error

SILENT = ("TimeoutException", "TimeoutError")
UNREACHABLE = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
BROKEN = ("RemoteProtocolError", "ReadError", "WriteError", "IncompleteRead", "ChunkedEncodingError")
"""What httpx and its successor call these; the hub's clients use the one or the other."""


@dataclass(frozen=True)
class Source:
    """A repository of the hub as settings name it."""

    kind: str
    """model or dataset, as the hub's client calls them."""
    name: str
    revision: str | None
    owner: str
    """What asks for it: model=roberta_base, task=glue/rte."""
    instead: str
    """The way out where the hub cannot be had."""
    is_resumed: bool = False
    """Whether the revision is the commit of a run that is resumed."""

    @property
    def key(self) -> str:
        """Return the setting that names it."""
        return "model.hub" if self.kind == "model" else "task.hub.path"

    @property
    def revision_key(self) -> str:
        """Return the setting that names its revision."""
        return "model.revision" if self.kind == "model" else "task.hub.revision"

    @property
    def title(self) -> str:
        """Return what it is, in words."""
        return "a model" if self.kind == "model" else "a data set"

    @property
    def page(self) -> str:
        """Return where people read of it, and ask for access."""
        return f"{connection.host()}/{'' if self.kind == 'model' else 'datasets/'}{self.name}"

    def error(self, line: str) -> MolexError:
        """Return the error of a line about it."""
        return ModelError(line) if self.kind == "model" else DataError(line)


def told(error: BaseException, source: Source) -> MolexError | None:
    """Return the one line of what a client raised, or of what stands behind it; None where it is none of the hub's."""
    for each in chain(error):
        if isinstance(each, MolexError):
            return each
        if line := _line(each, source):
            return source.error(line)
    return disk_error(error)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from, the innermost of the hub's clients among them."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]


def is_passing(error: BaseException) -> bool:
    """Return whether the hub gave no answer that counts: it may give one later, and a cached copy serves till then."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return _is(error, (*SILENT, *UNREACHABLE, *BROKEN)) or status in (408, 429) or status >= 500


def is_silent(error: BaseException) -> bool:
    """Return whether the hub gave no answer at all, or was not there: to ask again at once is of no use."""
    return _is(error, (*SILENT, *UNREACHABLE))


def reason(error: BaseException) -> str:
    """Return why the hub gave no answer that counts, in a few words."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status:
        return f"it answers {status}"
    if _is(error, SILENT):
        return f"no answer within {_waited(error):g} s"
    return "the connection broke" if _is(error, BROKEN) else _without_number(error)


def _waited(error: BaseException) -> float:
    """Return the seconds of silence after which a client gave up."""
    limits = getattr(getattr(error, "_request", None), "extensions", {}).get("timeout") or {}
    return limits.get("connect" if _is(error, ("ConnectTimeout",)) else "read") or connection.limit_seconds()


def away(source: Source, cached: str = "no cached copy") -> MolexError:
    """Return the line of a hub that is not asked, or not reached, and a cache that does not have it all."""
    why = connection.why_offline()
    unset = "unset HF_HUB_OFFLINE, or " if connection.is_set_offline() else ""
    return source.error(
        f"{source.owner} must come from the hub, got {why} and {cached} of {source.name}; {unset}{source.instead}"
    )


def _line(error: BaseException, source: Source) -> str | None:
    return _of_client(error, source) or _of_connection(error, source)


def _of_client(error: BaseException, source: Source) -> str | None:
    """Return the line of an error that the hub's own client raises of an answer."""
    from huggingface_hub import errors

    wanted, got = f"{source.key} must be {source.title}", f"got {source.name}"
    match error:
        case errors.HFValidationError():
            return f"{wanted} by its id, OWNER/NAME, {got}; {reason_of(error)}".rstrip(".")
        case errors.GatedRepoError():
            return f"{wanted} that is open to you, {got}, which is gated; {_access(source)}"
        case errors.RevisionNotFoundError():
            return no_revision(source)
        case errors.RemoteEntryNotFoundError():
            return f"{wanted} with the files that it lists, {got} without {error.response.url.path}; run it again"
        case errors.DisabledRepoError():
            return f"{wanted} that the hub gives away, {got}, which is disabled there; choose another"
        case errors.HfHubHTTPError():
            return _of_status(error, source)
        case errors.FileMetadataError():
            return no_hub()
    return None


def no_hub() -> str:
    """Return the line of an address where something answers, but as no hub does."""
    return (
        f"HF_ENDPOINT must be the address of a hub, got {connection.host()}, which answers without "
        "saying which commit a file is of; mend it, or unset it for the public hub"
    )


def _of_connection(error: BaseException, source: Source) -> str | None:
    """Return the line of a connection that failed."""
    if "Consistency check failed" in str(error):
        return f"{source.name} must come whole, got a file of another size from {connection.host()}; run it again"
    if _is(error, BROKEN):
        return (
            f"{source.name} must come whole, got a connection to {connection.host()} that broke; "
            "run it again: files that came whole are kept"
        )
    if _is(error, (*SILENT, *UNREACHABLE)):
        return (
            f"{source.owner} must come from the hub, got no connection to the hub at {connection.host()} "
            f"({reason(error)}); run it again later, or {source.instead}"
        )
    return None


def _of_status(error: BaseException, source: Source) -> str:
    """Return the line of an answer that is an error."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    message = getattr(response, "headers", {}).get("X-Error-Message", "")
    if status == 401 and "Invalid credentials" in message:
        return (
            f"HF_TOKEN must be a token that the hub knows, got one that {connection.host()} refuses; "
            "make a new one, or unset it (hf auth logout) for what is public"
        )
    if status in (401, 404):
        token = "" if connection.has_token() else ", or set HF_TOKEN (hf auth login) if it is private"
        return (
            f"{source.key} must be {source.title} on the hub, got {source.name}, which {connection.host()} does not "
            f"have; mend the id{token}"
        )
    if status == 403:
        return f"{source.key} must be {source.title} that is open to you, got {source.name}; {_access(source)}"
    if status == 429:
        seconds = connection.retry_after(response)
        wait = f"in {seconds} s" if seconds else "in some minutes"
        token = "" if connection.has_token() else "; a token (HF_TOKEN) raises its limit"
        return (
            f"{source.name} must be requested less often, got 429 (too many requests) from {connection.host()}; "
            f"run it again {wait}{token}"
        )
    when = "run it again later" if status >= 500 else "see whether HF_ENDPOINT is right"
    return f"{source.owner} must come from the hub, got {status} from {connection.host()}; {when}, or {source.instead}"


def no_revision(source: Source) -> str:
    """Return the line of a revision that is not there."""
    if source.is_resumed:
        return (
            f"{source.owner} must come from commit {source.revision}, with which this run began, "
            f"got none of that name in {source.name}; resume=never starts over beside it"
        )
    return (
        f"{source.revision_key} must be a branch, a tag or a commit of {source.name}, got {source.revision}; "
        f"{source.page} lists them, null takes main"
    )


def _access(source: Source) -> str:
    """Return the way to what is not open to all."""
    if connection.has_token():
        return f"ask for access at {source.page}: the token is valid, but has no access"
    return f"ask for access at {source.page}, then set HF_TOKEN or run hf auth login"


def _is(error: BaseException, names: tuple[str, ...]) -> bool:
    return any(each.__name__ in names for each in type(error).__mro__)


def _without_number(error: BaseException) -> str:
    """Return what the system says of a connection, without the number that it has for it."""
    return reason_of(error if isinstance(error, Exception) else Exception(str(error))).rpartition("] ")[2]
