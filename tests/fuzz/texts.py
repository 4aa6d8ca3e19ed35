"""Odd values: texts that other programs would act on, and numbers and shapes that no program expects."""

import json

HOSTILE = {
    "escape": "\x1b[31mred\x1b]0;owned\x07",
    "control": "a\x08b\x9b31mc\x7f",
    "script": "</script><script>document.title='owned'</script>",
    "attribute": '0"><img src=x onerror=alert(1)>',
    "formula": "=cmd|'/c calc'!A0",
    "tex": "a\n\\input{/etc/passwd} & % $x^2 \\write18{id}",
    "table": "a | b\n| c <b>d</b> [e](javascript:f)",
    "markup": "x[/b]y [bold red]z",
    "key": "${oc.env:WANDB_API_KEY}",
    "token": "${oc.env:MY_SECRET_TOKEN,none}",
    "home": "${oc.env:HOME}",
    "nothing": "${nope}",
    "half": "${",
    "escaped": "\\${x}",
    "surrogate": "\ud800",
    "nul": "a\x00b",
    "breaks": "a\u2028b\rc\nd",
    "backwards": "\u202eabc\u202c",
    "outside": "@OUTSIDE@/taken",
    "up": "../../outside/taken",
    "long": "a" * 300,
    "format": "%s%n{0}{a.b}",
    "regex": "(a+)+$",
    "many": "(.*){1,32000}[bc]",
    "empty": "",
    "space": " ",
    "number": "1e400",
}
"""Text by its name."""

RAW = {
    "null": "null",
    "true": "true",
    "minus": "-1",
    "zero": "0",
    "half": "0.5",
    "large": "1000000000",
    "larger": "1" + "0" * 23,
    "digits": "7" * 5000,
    "infinite": "1e999",
    "nan": "NaN",
    "tiny": "-1e-320",
    "list": "[]",
    "lists": "[[1], [[2]], null]",
    "dict": "{}",
    "dicts": '{"": {"name": null}, "a.b": [{}]}',
    "deep": "[" * 20_000 + "]" * 20_000,
    "deeper": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "megabyte": json.dumps("x" * 1_000_000),
    "no JSON": "{'a': 1,}",
    **{f"text {name}": json.dumps(text) for name, text in HOSTILE.items()},
}
"""What stands in place of a value in a file of JSON, as it is written there, by its name."""

SETTINGS = (
    "", "null", "true", "~", "-1", "0", "1", "0.5", "1e308", "-1e308", "nan", "inf", "1e-320", "1" + "0" * 23,
    "7" * 400, "0x10", "1_000", "[]", "{}", "[[1,2],[3]]", "{a:{b:1}}", "[null]", "[a", "a]", "{a", "'a", '"a', "a'b",
    "a,b", "1,2", "range(0,1e9)", "range(3)", "choice(1,2)", "choice()", "glob(*)", "interval(0,1)", "tag(a,choice(1))",
    "shuffle(1,2)", "int(a)", "str(1)", "[" * 500 + "]" * 500, "@WORK@/train.csv", "/dev/null", "/proc/nope", "nope",
    "\udcff", "é\u0301 ☃", "x[/b]y", "a=b", "a:b", "a b", "a\tb", "a\nb", "\x1b[31mred", "--x", "-m", "a/b",
    ".", "a" * 300,
    "${oc.env:HOME}", "${oc.env:WANDB_API_KEY}", "${oc.env:NOPE}", "${nope}", "${seed}", "\\${x}", "${", "$x", "%s",
    "${now:%Y}", "${molex_options:model}", "${oc.decode:${seed}}", "${oc.create:{a:1}}", "${hydra:runtime.cwd}",
    "<script>", "=cmd|x", "(a+)+$", "regex:(", "*", "[*]", "[query,'(a+)+$']", "[-1]", "[1e9]", "[0,1000000000]",
)  # fmt: skip
"""What stands behind the `=` of a setting."""

PATHS = (
    "", ".", "..", "nope", "nope/nope", "/dev/null", "/dev/full", "pipe", "train.csv", "outputs", "outputs/*", "mine",
    "peft", "merged", "--x", "-", "a" * 300, "a/" * 2000, "\udcff", "é ☃", "x[/b]y", "a\nb", "\x1b[31mred",
    "~", "~nobody/x",
    "${oc.env:WANDB_API_KEY}", "outputs/index.jsonl", "rows.jsonl", "claims.yaml", "dev.csv/x", "nul", "%s",
)  # fmt: skip
"""What stands where a path is expected."""

ENVIRONMENT = {
    "WANDB_MODE": ("", "nope", "online", "disabled", "dryrun", "shared", "run"),
    "WANDB_BASE_URL": (
        "", "nope", "127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:99999", "http://", "file:///", "\x1b",
    ),
    "WANDB_API_KEY": ("", "short", "a" * 41, "é" * 40, "x\ny"),
    "WANDB_PROJECT": ("", "a/b", "a" * 300, "x[/b]y"),
    "WANDB_ENTITY": ("", "a/b", "${oc.env:WANDB_API_KEY}"),
    "WANDB_DIR": ("nope/nope", "train.csv", "/dev/null"),
    "WANDB_RUN_ID": ("", "a/b", "x"),
    "WANDB_SILENT": ("true", "nope"),
    "WANDB_DISABLED": ("true", "nope"),
    "NETRC": ("nope", "merged/model.safetensors", "outputs"),
    "MOLEX_CACHE": ("", "train.csv", "/dev/null", "~nobody/x", "a" * 300, "new cache", "/proc/nope"),
    "MOLEX_DATA": ("", "nope", "train.csv", "a" * 300, "${oc.env:WANDB_API_KEY}", "\x1b[31mred"),
    "HOME": ("", "nope", "@WORK@/train.csv", "/proc/nope"),
    "TMPDIR": ("nope", "@WORK@/train.csv", "/proc/nope"),
    "COLUMNS": ("0", "-1", "1", "nope", "99999999999"),
    "LINES": ("0", "nope"),
    "TERM": ("", "dumb", "nope"),
    "NO_COLOR": ("1",),
    "USER": ("", "x[/b]y", "a" * 300),
    "CUDA_VISIBLE_DEVICES": ("nope", "-1", "99"),
    "WORLD_SIZE": ("nope", "0", "-1"),
    "LOCAL_RANK": ("nope", "3"),
    "SLURM_JOB_ID": ("nope",),
    "COMP_LINE": (
        "", "molex", "molex train -cd nope task=", "molex train 'a", "molex train task=" + "a" * 3000, "\udcff",
    ),
    "COMP_POINT": ("nope", "-1"),
    "HYDRA_FULL_ERROR": ("nope", "0", "1"),
}  # fmt: skip
"""What a variable of the environment may hold."""
