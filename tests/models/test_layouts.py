"""Positions of one grid resized to another."""

import numpy as np
import pytest
from scipy.ndimage import zoom

import neuronpath
from neuronpath.models.layouts import resize_positions

BLOCK, POSITIONS = "Transformer/encoderblock_0", "Transformer/posembed_input/pos_embedding"


class TestPositions:
    def test_two_by_two_to_three_by_three_by_hand(self):
        positions = np.array([9, 0, 2, 4, 10], np.float32).reshape(1, 5, 1)
        assert resize_positions(positions, 3).ravel().tolist() == [9, 0, 1, 2, 2, 4, 6, 4, 7, 10]

    def test_three_by_three_to_two_by_two_by_hand(self):
        positions = np.array([[9, *range(9)], [7, *range(10, 19)]], np.float32).T[None]  # (1, 10, 2)
        assert resize_positions(positions, 2)[0].T.tolist() == [[9, 0, 2, 6, 8], [7, 10, 12, 16, 18]]

    @pytest.mark.parametrize(("old", "side"), [(1, 3), (3, 1), (2, 5), (12, 7), (7, 12), (14, 24), (24, 14), (49, 37)])
    def test_equals_scipy_channel_by_channel(self, old, side):
        positions = np.random.default_rng(0).standard_normal((1, 1 + old**2, 3)).astype(np.float32)
        resized = resize_positions(positions, side)
        assert resized.shape == (1, 1 + side**2, 3)
        assert np.array_equal(resized[:, 0], positions[:, 0])
        for d in range(3):
            expected = zoom(positions[0, 1:, d].reshape(old, old), side / old, order=1)
            np.testing.assert_allclose(resized[0, 1:, d], expected.ravel(), rtol=1e-6, atol=1e-6)

    def test_same_grid_keeps_every_bit(self):
        positions = np.random.default_rng(0).standard_normal((1, 10, 2))
        assert np.array_equal(resize_positions(positions, 3), positions)

    def test_loading_at_another_size_resizes(self, checkpoint):
        with np.load(checkpoint) as file:
            positions = file[POSITIONS]
        loaded = neuronpath.load(checkpoint, img_size=15)
        assert loaded.config.img_size == 15
        assert np.array_equal(loaded.pos_embed.numpy(), resize_positions(positions, 5))
