"""Where a backbone's files are: a folder, an installed package, a converted GGUF, the hub."""

import hashlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from molex_cli.errors import ModelError, MolexError
from molex_cli.models.hub import repositories
from molex_cli.models.hub.problems import Source
from molex_cli.models.settings import Model
from molex_cli.records.partial import folder_renamed_when_whole
from molex_cli.records.parts import Base
from molex_cli.runtime.paths import expanded

MODEL_FILES = (".json", ".safetensors", ".bin", ".gguf", ".txt", ".model")
END_BYTES = 2**20


def local_folder(settings: Model, cache_dir: Path) -> Path | None:
    """Return the local folder of the model's files; None when they come from the hub or are random."""
    if settings.folder:
        folder, key = expanded(settings.folder), "model.folder"
    elif settings.package:
        folder, key = package_folder(settings), "model.package"
    else:
        return None
    if settings.gguf:
        return converted(_existing(folder / settings.gguf, "model.gguf"), cache_dir)
    _existing(folder / "config.json", key)
    return folder


def on_hub(settings: Model) -> Source | None:
    """Return the model's repository on the hub, if that is its source."""
    if not settings.hub:
        return None
    instead = "set model.folder=PATH (and model.hub=null), or choose model=minilm"
    return Source("model", settings.hub, settings.revision, f"model={settings.name}", instead)


def base(settings: Model) -> Base:
    """Return what a record keeps of the base model's files; of the hub's what can be had now."""
    found: dict[str, str | None] = {}
    if source := on_hub(settings):
        try:
            at = repositories.at(source)
        except MolexError:  # whoever loads the model says so
            return {}
        found = {"commit": at.commit, "fingerprint": at.fingerprint()}
    elif settings.folder or settings.package:
        found = {"fingerprint": _fingerprint(settings)}
    return Base(**{name: value for name, value in found.items() if value})  # type: ignore[typeddict-item]


def _fingerprint(settings: Model) -> str:
    """Return a hash of a local model's files: name, size and both ends of each."""
    folder = expanded(settings.folder) if settings.folder else package_folder(settings)
    paths = [folder / settings.gguf] if settings.gguf else sorted(folder.glob("*"))
    digest = hashlib.sha256()
    for path in paths:
        if path.suffix in MODEL_FILES and path.is_file():
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            digest.update(_ends(path))
    return digest.hexdigest()


def _ends(path: Path) -> bytes:
    """Return the first and the last bytes of a file: weights of gigabytes are not read whole."""
    with path.open("rb") as file:
        first = file.read(END_BYTES)
        file.seek(max(len(first), path.stat().st_size - END_BYTES))
        return first + file.read()


def package_folder(settings: Model) -> Path:
    """Return the weights' folder inside an installed package, without importing the package."""
    try:
        spec = importlib.util.find_spec(settings.package or "")
    except (ImportError, ValueError):  # the parent of a dotted name is missing
        spec = None
    if spec is None or not spec.submodule_search_locations:
        way_out = settings.pip or f"pip install {settings.package}"
        raise ModelError(f"model={settings.name} must have its package installed, got no {settings.package}; {way_out}")
    return Path(next(iter(spec.submodule_search_locations))) / settings.package_folder


def converted(gguf: Path, cache_dir: Path) -> Path:
    """Return a folder with the GGUF file's model in float32 safetensors, converted the first time."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_dir / "models" / f"{gguf.stem}-{digest[:16]}"
    if (folder / "config.json").exists():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"cache_dir must be a folder that can be written to, got {cache_dir} ({error.strerror}); set cache_dir=PATH"
        ) from None
    with folder_renamed_when_whole(folder, keep_existing=True) as temporary:
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype="float32",
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        save(model, tokenizer, temporary)
    return folder


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model with its tokenizer, which from then on gives no inputs that the model does not take."""
    fit(tokenizer, model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fit(tokenizer: Any, model: Any) -> None:
    """Let a tokenizer give no inputs that the model does not take: `generate` refuses them."""
    taken = inspect.signature(model.forward).parameters
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]


def _existing(path: Path, key: str) -> Path:
    if not path.exists():
        raise ModelError(f"{key} must hold {path.name}, which does not exist in {path.parent}")
    return path
