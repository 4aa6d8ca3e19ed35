"""ExpertSimilarity from the factors equals what the dense products say, at any size."""

import time
import tracemalloc

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from molex_cli.statistics import expert_similarity


def factors(experts=4, rank=3, num_in=11, num_out=7, seed=0):
    stream = np.random.default_rng(seed)
    return stream.normal(size=(experts, rank, num_in)), stream.normal(size=(experts, rank, num_out))


def test_the_gram_matrices_say_what_the_dense_products_say():
    down, up = factors()
    found = expert_similarity.of_factors(down, up, 2.0, 0, "query")
    dense = [2.0 * up[e].T @ down[e] for e in range(4)]
    assert found.norm == pytest.approx([np.linalg.norm(each) for each in dense])
    for a in range(4):
        for b in range(4):
            assert found.distance[a, b] == pytest.approx(np.linalg.norm(dense[a] - dense[b]), abs=1e-6)
            inner = (dense[a] * dense[b]).sum() / np.linalg.norm(dense[a]) / np.linalg.norm(dense[b])
            assert found.cosine[a, b] == pytest.approx(inner)
            for overlap, part in ((found.output_overlap, up), (found.input_overlap, down)):
                angles = subspace_angles(part[a].T, part[b].T)
                assert overlap[a, b] == pytest.approx((np.cos(angles) ** 2).mean(), abs=1e-9)


def test_known_experts_have_known_redundancy():
    down, up = factors(experts=2)
    same = expert_similarity.of_factors(
        np.stack([down[0], down[0]]), np.stack([up[0], 3 * up[0]]), 1.0, 0, "a"
    ).as_data()
    assert same["cosine"] == pytest.approx(1.0)
    assert same["distance"] == pytest.approx(2 * np.linalg.norm(up[0].T @ down[0]))
    assert same["output_overlap"] == pytest.approx(1.0)
    assert same["input_overlap"] == pytest.approx(1.0)
    apart = np.zeros((2, 3, 12))
    apart[0, :, :3] = apart[1, :, 3:6] = np.eye(3)
    found = expert_similarity.of_factors(apart, apart, 1.0, 0, "a").as_data()
    assert (found["cosine"], found["output_overlap"]) == (0.0, 0.0)
    assert found["distance"] == pytest.approx(np.sqrt(6))


def test_experts_that_are_zero_have_a_distance_and_no_direction():
    down, up = factors()
    found = expert_similarity.of_factors(down, np.zeros_like(up), 1.0, 0, "a").as_data()
    assert found["distance"] == 0.0
    assert np.isnan(found["cosine"])
    assert np.isnan(found["output_overlap"])
    assert 0 < found["input_overlap"] < 1


def test_a_seven_billion_parameter_shape_takes_no_dense_product():
    """One module of Llama-2-7B: 32 layers of 5 experts of rank 8 on 4,096 features.

    A dense product would be 4,096 x 4,096; its time is our unit, so that a slow machine slows both.
    """
    stream = np.random.default_rng(0)
    down = stream.normal(size=(5, 8, 4096)).astype(np.float32)
    up = stream.normal(size=(5, 8, 4096)).astype(np.float32)
    expert_similarity.of_factors(down, up, 2.0, 0, "q_proj")
    began = time.perf_counter()
    for layer in range(32):
        expert_similarity.of_factors(down, up, 2.0, layer, "q_proj")
    ours = time.perf_counter() - began
    began = time.perf_counter()
    dense = [up[e].T @ down[e] for e in range(5)]
    [np.linalg.norm(dense[a] - dense[b]) for a in range(5) for b in range(a)]
    assert ours < 32 * (time.perf_counter() - began) / 5


def test_memory_is_that_of_the_factors_not_of_the_products():
    down, up = factors(experts=5, rank=8, num_in=4096, num_out=4096)
    tracemalloc.start()
    expert_similarity.of_factors(down, up, 2.0, 0, "q_proj")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4096 * 4096 * 8 / 16
