"""How counts grow with T: the dispatch counter, the card's formula and a fitted exponent say the same."""

import math

import numpy as np
import pytest

from posescale.cards import component, list_models
from posescale.measure.closed_form import closed_form, leading_terms, quadratic_overtakes
from posescale.measure.counting import count
from posescale.measure.subject import Subject
from posescale.stats import power_law

LENGTHS = (9, 27, 81, 243)
SMALL = [name for name in list_models("lifting") if name.endswith(("_tiny", "_s", "_xs", "_lite"))]


def _counted(name, frames, batch):
    subject = Subject(name, frames, batch, {})
    return subject, count(subject.build().to("meta"), subject.draw(0).to("meta"))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_closed_form_equals_the_dispatch_count_to_the_unit(name, batch):
    for frames in LENGTHS:
        subject, counted = _counted(name, frames, batch)
        formula = closed_form(subject.component, frames, batch, subject.arguments())
        assert (counted.contractions, counted.scan) == (formula["contractions"], formula["scan"]), frames


@pytest.mark.parametrize(
    "name", ["posemamba_tiny", "motionbert_tiny", "motionagformer_tiny", "mixste_tiny", "poseformerv2_tiny"]
)
def test_fitted_exponent_is_the_analytic_one(name):
    """Over a narrow range of T the slope of a fit is T f'(T) / f(T) in its middle."""
    middle, lengths = 81, (77, 79, 81, 83, 85)
    fitted = power_law(lengths, [_counted(name, t, 1)[1].contractions for t in lengths]).exponent.value
    subject = Subject(name, middle, 1, {})
    terms = leading_terms(subject.component, subject.arguments())["contractions"]
    analytic = sum(p * f * middle**p for p, f in terms.items()) / sum(f * middle**p for p, f in terms.items())
    assert fitted == pytest.approx(analytic, abs=0.02)


def test_motionagformer_l_is_linear_by_the_old_ruler_and_quadratic_to_cubic_in_truth():
    found = component("motionagformer_l")
    work = [
        closed_form(found, t, 1, Subject("motionagformer_l", t, 1, {}).arguments())["contractions"] for t in (486, 729)
    ]
    assert np.log(work[1] / work[0]) / math.log(1.5) == pytest.approx(1.99, abs=0.01)  # field notes F1
    terms = leading_terms(found, Subject("motionagformer_l", 243, 1, {}).arguments())["contractions"]
    assert max(terms) == 3


@pytest.mark.parametrize(("name", "frames"), [("motionbert_lite", 3116), ("motionbert", 4140), ("mixste", 4113)])
def test_where_the_quadratic_part_overtakes(name, frames):
    arguments = Subject(name, 243, 1, {}).arguments()
    assert quadratic_overtakes(component(name), arguments) == pytest.approx(frames, abs=1)


def test_a_scan_is_linear_for_ever():
    assert quadratic_overtakes(component("posemamba_s"), Subject("posemamba_s", 243, 1, {}).arguments()) is None
