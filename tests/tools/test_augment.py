"""What training does to batches of samples and frames."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch belongs to the [train] extra")
pytest.importorskip("pyroomacoustics", reason="rooms belong to the [train] extra")

from tools import augment, prepare  # noqa: E402
from tools.augment import AugmentSettings  # noqa: E402
from tools.batches import Bank, fill_up  # noqa: E402


@pytest.fixture
def voice() -> NDArray[np.float32]:
    """Two seconds of a buzz with formants that comes and goes, over a little noise."""
    rng = np.random.default_rng(0)
    t = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 40))
    return (0.1 * buzz * np.sin(2 * np.pi * 3 * t) ** 2 + 1e-3 * rng.standard_normal(len(t))).astype(np.float32)


def test_frames_are_those_of_the_runtime(voice: NDArray[np.float32]) -> None:
    mine = augment.log_mel(torch.from_numpy(np.stack((voice, voice[::-1].copy()))))
    np.testing.assert_allclose(mine[0].numpy(), prepare.log_mel(voice), atol=0.01)
    np.testing.assert_allclose(mine[1].numpy(), prepare.log_mel(voice[::-1].copy()), atol=0.01)


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_speed_is_changed_as_soxr_does(voice: NDArray[np.float32], factor: float) -> None:
    theirs = soxr.resample(voice, factor * 16_000, 16_000)[:20_000]
    both = torch.from_numpy(np.stack((voice, voice)))
    sped, same = augment.change_speed(both, torch.tensor([factor, 1.0], dtype=torch.float64), 20_000).numpy()
    assert np.sqrt(np.mean(np.square(sped - theirs)) / np.mean(np.square(theirs))) < 0.02
    np.testing.assert_allclose(same, voice[:20_000], atol=1e-6)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_recorded_noise_has_the_ratio_asked_for(snr_db: float) -> None:
    torch.manual_seed(0)
    voices, noises = torch.randn(8, 16_000), torch.randn(3, 40_000)
    settings = AugmentSettings(recorded=1, recorded_snr_db=(snr_db, snr_db))
    added = augment.add_recorded(voices, noises, settings) - voices
    measured_db = 10 * torch.log10(voices.square().mean(dim=1) / added.square().mean(dim=1))
    torch.testing.assert_close(measured_db, torch.full((8,), snr_db), atol=0.01, rtol=0)


def test_a_room_and_a_tilt_keep_the_power_and_do_something() -> None:
    torch.manual_seed(0)
    voices = torch.randn(4, 16_000)
    room = torch.exp(-torch.arange(4000) / 500) * torch.randn(4000)
    heard = augment.room_and_tilt(voices, room[None], AugmentSettings(room=1, tilt=1))
    torch.testing.assert_close(heard.square().mean(dim=1), voices.square().mean(dim=1))
    assert (heard - voices).square().mean() > 0.1
    untouched = augment.room_and_tilt(voices, room[None], AugmentSettings(room=0, tilt=0))
    torch.testing.assert_close(untouched, voices, atol=1e-4, rtol=0)


def test_a_crop_is_a_stretch_of_its_clip_or_runs_into_the_one_behind() -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    clips = [[np.arange(k, k + n, dtype=np.int16)] * 2 for k, n in ((1000, 500), (2000, 60), (3000, 80))]
    bank = Bank(clips, device)
    for _ in range(20):
        rows, behind = torch.tensor([0, 0, 1, 1]), torch.tensor([-1, 2, 2, -1])
        versions, wanted = torch.tensor([0, 1, 0, 1]), torch.tensor([100, 100, 100, 100])
        cut, n_real = bank.cut(rows, versions, behind, wanted)
        samples = (cut * 2**15).round().int().numpy()
        assert n_real.tolist() == [100, 100, 100, 60]
        for row in samples[:2]:  # long enough: nothing of the clip behind
            np.testing.assert_array_equal(np.diff(row), 1)
            assert 1000 <= row[0] <= 1400
        own = samples[2][samples[2] < 3000]
        assert len(own) >= 30  # at least half of the clip whose emotion is the target
        np.testing.assert_array_equal(samples[2], [*own, *range(3000, 3100 - len(own))])
        np.testing.assert_array_equal(samples[3], [*range(2000, 2060), *[0] * 40])


def test_a_spliced_crop_is_pieces_of_both_clips_that_fade_where_they_meet() -> None:
    torch.manual_seed(0)
    clips = [[np.full(n, value, np.int16)] * 2 for n, value in ((40_000, 1000), (20_000, 2000), (3000, 500))]
    bank = Bank(clips, torch.device("cpu"))
    rows, others = torch.tensor([0] * 40 + [2]), torch.tensor([1] * 40 + [2])
    spliced, n_real = bank.splice(
        rows, others, torch.zeros(41, dtype=torch.long), torch.tensor([48_000] * 40 + [32_000])
    )
    samples = (spliced * 2**15).numpy()
    assert n_real.tolist() == [48_000] * 40 + [32_000]
    for row in samples[:40]:
        whole = np.isin(row, (1000, 2000))
        joins = np.flatnonzero(np.diff(whole.astype(int)) == 1)
        assert 2 <= len(joins) <= 9  # pieces of 0.3 to 1 s
        assert np.sum(~whole) == 160 * len(joins)  # 5 ms to either side of a join
        assert np.abs(np.diff(row)).max() < 30  # and no click
    share = np.mean(samples[:40] > 1000)
    assert 0.4 < share < 0.6  # as much of the other clip as of its own
    # Its own clip, over and over, is all that a speaker with one has; of one too short, silence is not speech.
    assert samples[40].max() == 500
    shortest = Bank([[np.full(100, 500, np.int16)] * 2], torch.device("cpu"))
    row = torch.zeros(1, dtype=torch.long)
    few, n_real = shortest.splice(row, row, row, torch.tensor([16_000]))
    assert n_real.tolist() == [400]
    assert not few[0, 400:].any()


def test_padding_becomes_the_clips_own_background() -> None:
    frames = torch.arange(100.0)[None, :, None].expand(2, 100, 3).clone()
    filled = fill_up(frames, torch.tensor([100, 40]))
    assert torch.equal(filled[0], frames[0])
    assert torch.equal(filled[1, :40], frames[1, :40])
    assert torch.equal(filled[1, 40:], torch.full((60, 3), 2.0))


def test_nothing_is_done_where_nothing_is_asked_for(voice: NDArray[np.float32]) -> None:
    samples = torch.from_numpy(np.stack((voice, voice[::-1].copy())))
    rooms, noises = torch.randn(2, 1600), torch.randn(2, 16_000)
    heard = augment.degrade(samples, rooms, noises, augment.NOTHING)
    torch.testing.assert_close(heard, samples, atol=1e-4, rtol=0)
    frames = augment.log_mel(samples)
    torch.testing.assert_close(augment.augment(frames, augment.NOTHING), frames, atol=1e-3, rtol=0)


def test_a_band_ends_at_one_side_or_at_both() -> None:
    frames = torch.zeros(400, 2, 64)
    for one_sided in (0.0, 1.0):
        settings = AugmentSettings(band_limit=1, band_limit_at=(20, 26), band_limit_one_sided=one_sided)
        lost = augment.limit_band(frames, settings)[:, 0] < -19
        assert not lost[:, 20:26].any()
        both = lost[:, 0] & lost[:, -1]
        assert both.float().mean() == 0 if one_sided else both.float().mean() > 0.8
        assert lost[:, 0].float().mean() > 0.4
        assert lost[:, -1].float().mean() > 0.4
