import math

import numpy as np
import pytest

from rankjax.errors import RunError
from rankjax.train import Monitor

HEALTHY = {"loss": 1.0, "grad_norm": 2.0, "embedding_norm": 1.0, "mean_cosine": 0.1}
COLLAPSED = HEALTHY | {"mean_cosine": 0.999}


class OnDevice:
    """A scalar on a device, which is waited for when its value is asked for."""

    def __init__(self, value, waited):
        self.value, self.waited = value, waited

    def __array__(self, dtype=None, copy=None):
        self.waited()
        return np.asarray(self.value, dtype)


def feed(monitor, steps, metrics=HEALTHY):
    return [row for step in steps for row in monitor.add(step, metrics)]


def test_metrics_are_not_waited_for_until_some_steps_later():
    monitor, waited = Monitor(), []
    for step in range(1, 11):
        loss = OnDevice(1.0, lambda step=step: waited.append(step))
        rows = monitor.add(step, HEALTHY | {"loss": loss})
        assert [row["step"] for row in rows] == ([step - 4] if step > 4 else [])
    assert waited == [1, 2, 3, 4, 5, 6]


def test_every_step_is_handed_back_once_and_in_order():
    monitor = Monitor()
    rows = [*feed(monitor, range(1, 8)), *monitor.flush(), *feed(monitor, range(8, 14))]
    rows += monitor.flush()
    assert rows == [{"step": step, **HEALTHY} for step in range(1, 14)]
    assert monitor.flush() == []


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_named_with_the_likely_cause(name, value):
    monitor = Monitor()
    feed(monitor, range(5))
    monitor.add(5, HEALTHY | {name: value})
    words = rf"step 5 gave .*{value}.* a learning rate too high: lower it"
    with pytest.raises(RunError, match=words) as caught:
        monitor.flush()
    assert "\n" not in str(caught.value)


def test_embeddings_that_grew_are_blamed_for_a_loss_that_is_not_finite():
    monitor = Monitor()
    feed(monitor, range(5), HEALTHY | {"embedding_norm": 1e5})
    monitor.add(5, HEALTHY | {"embedding_norm": math.inf, "loss": math.nan})
    with pytest.raises(RunError, match=r"length before it 1e\+05.*normalise them"):
        monitor.flush()


@pytest.mark.parametrize("low", [{"mean_cosine": 0.999}, {"embedding_norm": 1e-6}])
def test_a_collapse_ends_the_run_after_a_hundred_steps_in_a_row(low):
    monitor = Monitor()
    feed(monitor, range(1, 100), HEALTHY | low)
    assert monitor.flush()[-1]["step"] == 99
    monitor.add(100, HEALTHY | low)
    with pytest.raises(RunError, match=r"collapsed by step 100: .*learning rate"):
        monitor.flush()


def test_one_healthy_step_starts_the_count_anew():
    monitor = Monitor()
    feed(monitor, range(99), COLLAPSED)
    feed(monitor, [99])
    feed(monitor, range(100, 199), COLLAPSED)
    assert monitor.flush()[-1]["step"] == 198
