"""A run as a PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path

from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.checkpoints.folders import new_folder, require_new
from molex_cli.checkpoints.saved_run import adapter_file
from molex_cli.errors import ConfigError
from molex_cli.methods.peft import PREFIX
from molex_cli.models.structure import Backbone
from molex_cli.runtime.extras import install

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's names, known without PEFT for an import


def export(run: Path, which: str, output: Path) -> Saved:
    """Write a run's adapter as PEFT's and return the run's settings."""
    require_new(output)
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError(f"molex export must have PEFT, got none; {install('peft')}") from None
    saved, adapted = adapter.load(adapter_file(run, which))
    tensors, config = saved.experiment.method.export(adapted)
    head = head_modules(adapted.backbone)
    model = saved.experiment.model
    config.base_model_name_or_path, config.revision = model.hub or model.folder, model.revision
    config.task_type = "CAUSAL_LM" if adapted.backbone.is_language_model else "SEQ_CLS"
    config.inference_mode = True
    config.modules_to_save = head or None
    for module in head:
        state = adapted.model.get_submodule(module).state_dict()
        tensors |= {f"{PREFIX}{module}.{name}": tensor for name, tensor in state.items()}
    with new_folder(output) as folder:
        config.save_pretrained(folder)
        adapter.write_tensors(folder / FILE, tensors, {"format": "pt"})
    return saved


def head_modules(backbone: Backbone) -> list[str]:
    """Return the modules that hold the head: whole ones beside the base model, single ones inside it."""
    inside = f"{backbone.model.base_model_prefix}."
    names = backbone.head()
    return sorted({n.rpartition(".")[0] if n.startswith(inside) else n.partition(".")[0] for n in names})
