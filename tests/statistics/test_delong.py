"""DeLong's interval agrees with the definition by pairs."""

import numpy as np
import pytest
from scipy import stats

from xrayssl.statistics.delong import delong


def slowly(positive, negative):
    """AUROC and variance from every pair (DeLong et al. 1988, equations 3-5)."""
    win = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    of_positive, of_negative = win.mean(1), win.mean(0)
    variance = np.var(of_positive, ddof=1) / len(positive) + np.var(of_negative, ddof=1) / len(negative)
    return win.mean(), variance


@pytest.mark.parametrize("seed", range(4))
def test_delong_by_ranks_is_delong_by_pairs(seed):
    random = np.random.default_rng(seed)
    probability, label = random.integers(0, 15, 120) / 15, (random.random(120) < 0.3).astype(float)
    label[:10] = np.nan
    value, variance = slowly(probability[label == 1], probability[label == 0])
    low, high = stats.norm.interval(0.9, value, np.sqrt(variance))
    found = delong(probability, label, level=0.9)
    assert found == pytest.approx({"value": value, "low": low, "high": high})


def test_delong_stays_within_what_an_auroc_can_be():
    found = delong([0.9, 0.8, 0.3, 0.2, 0.85], [1, 1, 0, 0, 0])
    assert found["value"] < 1 and found["high"] == 1


@pytest.mark.parametrize(("label", "value"), [([0, 0, 1, 1], 1.0), ([0, 0, 0, 1], 1.0), ([0, 0, 0, 0], None)])
def test_delong_has_no_interval_without_variance(label, value):
    assert delong([0.1, 0.2, 0.3, 0.4], label) == {"value": value, "low": None, "high": None}
