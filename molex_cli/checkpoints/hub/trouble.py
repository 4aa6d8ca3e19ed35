"""What goes wrong when a run is sent to the hub, as one line with the way out; no torch."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from molex_cli.errors import ConfigError, MolexError, reason_of, shortened
from molex_cli.models.hub import connection, problems
from molex_cli.records.disk import disk_error
from molex_cli.records.secrets import HIDDEN

LOGIN = "log in with hf auth login, or set HF_TOKEN (a token that may write: huggingface.co/settings/tokens)"
LONGEST = 200  # characters of what the hub says


def require_names(repo: str, revision: str | None) -> None:
    """Raise ConfigError for what is no name of a repository, or of a branch."""
    if revision is not None and not re.fullmatch(r"[\w./-]+", revision, re.ASCII):
        raise ConfigError(f"--revision must be a branch of letters, digits, -, _, . and /, got {revision!r}")
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        rule = "letters, digits, -, _ and ., at most 96"
        raise ConfigError(f"--repo must be USER/NAME of {rule}, got {repo} ({_one_sentence(error)})") from None
    if repo.count("/") != 1:
        raise ConfigError(f"--repo must be USER/NAME, got {repo}; add whose it is")


def require_token() -> str:
    """Return the token that the hub's client would send; raise ConfigError where there is none."""
    connection.require_endpoint()
    from huggingface_hub import get_token

    if connection.is_set_offline():
        raise ConfigError("molex push must reach the hub, got HF_HUB_OFFLINE set; unset it, or take --dry-run DIR")
    if token := get_token():
        return token
    raise ConfigError(f"molex push must have a token of the hub, got none; {LOGIN}")


@contextmanager
def of_writing(repo: str, token: str) -> Iterator[None]:
    """Turn what goes wrong while a run is sent into one line, in which the token is not."""
    try:
        yield
    except MolexError:
        raise
    except Exception as error:
        raise disk_error(error) or ConfigError(_unsent(repo, error).replace(token, HIDDEN)) from error


def _unsent(repo: str, error: Exception) -> str:
    """Return why a run was not sent, by the status of the hub's answer where there is one."""
    status, said = _answer(error)
    got = f"got {status or ''}{' ' if status and said else ''}{said}"
    if status == 401:
        return f"molex push must have a token that the hub knows, {got}; {LOGIN}"
    if status == 402 or any(word in said.lower() for word in ("storage", "quota", "billing")):
        return f"{repo} must have room on the hub, {got}; make room there, or send it to another account"
    if status == 403:
        return f"{repo} must be a repository that your token may write to, {got}; {LOGIN}, or name one of your own"
    if status == 404:
        return f"{repo} must be there for your token, {got}; look at its spelling and at --revision"
    if status in (409, 412):
        return f"{repo} must not change while it is written to, {got}; run molex push again"
    if status == 413:
        return f"{repo} must take what is sent, {got}; leave out --predictions"
    if status == 429 or (status or 0) >= 500:
        return f"the hub must take what is sent to {repo}, {got}; run molex push again later"
    if status is None:
        got = f"got {problems.reason(error)}" if problems.is_passing(error) else got
        return f"the hub must be reached at {connection.host()}, {got}; run molex push again when it can be"
    return f"the hub must take what is sent to {repo}, {got}"


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Return the status of the answer behind an error and what the hub said; no status where none came."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code, _short(error.server_message or error.response.reason_phrase)
    return (None, _one_sentence(error)) if error.__cause__ is None else _answer(error.__cause__)


def _one_sentence(error: BaseException) -> str:
    return _short(reason_of(error)) if isinstance(error, Exception) else type(error).__name__


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), LONGEST)
