"""Pages in a real browser: what a script finds in one, and what the browser complains of."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest

WATCH = """
const errors = [];
window.addEventListener("error", event => errors.push(event.message));
document.addEventListener("securitypolicyviolation", event => errors.push(event.violatedDirective));
"""
TELL = """
found.errors = errors;
const out = document.createElement("pre");
out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
"""


def opened(page, script, width=1280):
    """Return what a script leaves in `found`, and what the browser writes to its console; skip without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    watch, check = WATCH, f"{{{script}{TELL}}}"
    allowed = " ".join(f"'sha256-{_hash(each)}'" for each in (watch, check))
    text = page.read_text().replace("script-src ", f"script-src {allowed} ", 1)
    text = text.replace("<title>", f"<script>{watch}</script><title>", 1)
    page.write_text(text.replace("</body>\n</html>", f"<script>{check}</script></body></html>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--enable-logging=stderr"]
    command = [browser, *flags, "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), console


def _hash(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
