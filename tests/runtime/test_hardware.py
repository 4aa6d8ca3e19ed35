"""What a record says of the machine."""

import pytest
import torch

from molex_cli.runtime.hardware import Device, Hardware, description


@pytest.mark.parametrize(("device", "gpu"), [(Device.cpu, "none"), (Device.auto, "H100"), (Device.cuda, "H100")])
def test_a_run_names_the_gpu_that_it_computes_on(monkeypatch, device, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    assert description(Hardware(device=device))["gpu"] == gpu
