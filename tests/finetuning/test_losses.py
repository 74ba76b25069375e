"""Each loss against a slow re-computation, term by term."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from xrayssl.errors import UserError
from xrayssl.finetuning.losses import LabelLoss

NAN = float("nan")
LOGITS = torch.tensor([[1.0, -2.0, 0.3], [0.5, 3.0, -0.7], [-1.5, 0.2, 4.0], [0.1, -0.4, 2.0]])
FINDINGS = torch.tensor([[1.0, NAN, 0.0], [0.0, 1.0, 1.0], [NAN, NAN, 1.0], [NAN, NAN, NAN]])
CLASSES = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [NAN, NAN, NAN], [0.0, 0.0, 1.0]])
NAMES = ["a", "b", "c"]


def found(loss, label=FINDINGS, task="multilabel", logits=LOGITS, train=None):
    return loss(logits, label, task, loss.weights(NAMES[: label.shape[1]], task, train)).item()


def terms(term, label=FINDINGS):
    """The mean of a term over every known label, one at a time."""
    pairs = [(LOGITS[i, k].item(), y.item(), k) for i, row in enumerate(label) for k, y in enumerate(row)]
    known = [term(1 / (1 + math.exp(-z)), y, k) for z, y, k in pairs if not math.isnan(y)]
    return sum(known) / len(known)


def test_cross_entropy_of_findings_is_the_mean_over_known_labels():
    assert found(LabelLoss()) == pytest.approx(terms(lambda p, y, k: -math.log(p if y else 1 - p)))


def test_one_finding_is_a_binary_task():
    label, logits = torch.tensor([[1.0], [0.0], [NAN]]), torch.tensor([[0.3], [-0.2], [9.0]])
    expected = functional.binary_cross_entropy_with_logits(logits[:2], label[:2]).item()
    assert found(LabelLoss(), label, logits=logits) == pytest.approx(expected)


def test_focal_loss_of_findings():
    expected = terms(lambda p, y, k: -((1 - p) ** 3) * math.log(p) if y else -(p**3) * math.log(1 - p))
    assert found(LabelLoss("focal", gamma=3.0)) == pytest.approx(expected)
    known = ~FINDINGS.isnan()
    theirs = sigmoid_focal_loss(LOGITS[known], FINDINGS[known], alpha=-1, gamma=3.0, reduction="mean")
    assert found(LabelLoss("focal", gamma=3.0)) == pytest.approx(theirs.item())


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_asymmetric_loss_of_findings(margin):
    def term(p, y, k):
        q = max(p - margin, 0)
        return -((1 - p) ** 1) * math.log(p) if y else -(q**4) * math.log(1 - q)

    loss = LabelLoss("asymmetric", gamma_positive=1.0, margin=margin)
    assert found(loss) == pytest.approx(terms(term), rel=1e-5)


def test_an_asymmetric_loss_without_asymmetry_is_cross_entropy():
    plain = LabelLoss("asymmetric", gamma_positive=0.0, gamma_negative=0.0, margin=0.0)
    assert found(plain) == pytest.approx(found(LabelLoss()))


def test_a_focal_loss_without_focus_is_cross_entropy_for_classes_too():
    for task, label in (("multilabel", FINDINGS), ("multiclass", CLASSES)):
        options = {"smoothing": 0.1, "class_weights": [1.0, 3.0, 0.5]}
        focal, plain = LabelLoss("focal", gamma=0.0, **options), LabelLoss(**options)
        assert found(focal, label, task) == pytest.approx(found(plain, label, task))


def test_cross_entropy_of_classes_is_torchs_with_smoothing_and_weights():
    known, weights = ~CLASSES.isnan().any(dim=1), [1.0, 3.0, 0.5]
    theirs = functional.cross_entropy(LOGITS[known], CLASSES[known].argmax(dim=1), weight=torch.tensor(weights))
    assert found(LabelLoss(class_weights=weights), CLASSES, "multiclass") == pytest.approx(theirs.item())
    smooth = functional.cross_entropy(LOGITS[known], CLASSES[known].argmax(dim=1), label_smoothing=0.2)
    assert found(LabelLoss(smoothing=0.2), CLASSES, "multiclass") == pytest.approx(smooth.item())


def test_focal_loss_of_classes():
    rows = [(LOGITS[i].softmax(dim=0)[CLASSES[i].argmax()].item()) for i in (0, 1, 3)]
    expected = sum(-((1 - p) ** 2) * math.log(p) for p in rows) / 3
    assert found(LabelLoss("focal"), CLASSES, "multiclass") == pytest.approx(expected)


def test_smoothing_moves_a_findings_label_half_its_share():
    def term(p, y, k):
        y = y * 0.9 + 0.05
        return -y * math.log(p) - (1 - y) * math.log(1 - p)

    assert found(LabelLoss(smoothing=0.1)) == pytest.approx(terms(term))


def test_given_weights_are_those_of_the_findings_presence():
    weight = [2.0, 3.0, 5.0]
    expected = terms(lambda p, y, k: -weight[k] * math.log(p) if y else -math.log(1 - p))
    assert found(LabelLoss(class_weights=weight)) == pytest.approx(expected)


def test_balanced_findings_weigh_both_outcomes_alike_and_one_in_the_mean():
    train = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, np.nan, 1]], np.float32)
    weight_2K = LabelLoss(class_weights="balanced").weights(NAMES, "multilabel", train).numpy()
    positive, negative = np.nansum(train == 1, axis=0), np.nansum(train == 0, axis=0)
    assert weight_2K[1] * positive == pytest.approx(weight_2K[0] * negative)
    assert weight_2K[1] * positive + weight_2K[0] * negative == pytest.approx(positive + negative)


def test_balanced_classes_are_weighed_as_scikit_learn_weighs_them():
    from sklearn.utils.class_weight import compute_class_weight

    kinds = np.array([0, 0, 0, 1, 2, 2])
    train = np.vstack([np.eye(3)[kinds], np.full((1, 3), np.nan)]).astype(np.float32)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=kinds)
    ours = LabelLoss(class_weights="balanced").weights(NAMES, "multiclass", train)[1]
    assert ours.numpy() == pytest.approx(theirs)


def test_an_outcome_that_cannot_be_weighed_is_named():
    train = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    with pytest.raises(UserError, match=r"one is missing of: b, c\."):
        LabelLoss(class_weights="balanced").weights(NAMES, "multilabel", train)


@pytest.mark.parametrize("loss", [LabelLoss(), LabelLoss("focal"), LabelLoss("focal", gamma=0.5),
                                  LabelLoss("asymmetric"), LabelLoss("asymmetric", margin=0.0, gamma_negative=0.5)],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_a_network_that_is_certain_has_a_finite_loss_and_gradient(loss, task):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    if loss.kind == "asymmetric" and task == "multiclass":
        return
    value = loss(logits, torch.eye(2), task, torch.ones(2, 2)) + loss(logits, 1 - torch.eye(2), task, torch.ones(2, 2))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["cross_entropy", "focal", "asymmetric"])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_unknown_labels_cost_nothing_and_pull_nowhere(kind, task):
    logits = LOGITS.clone().requires_grad_()
    loss = LabelLoss(kind)(logits, torch.full((4, 3), NAN), task, torch.ones(2, 3))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_every_number_outside_its_range_is_named_at_once():
    with pytest.raises(UserError) as caught:
        LabelLoss(smoothing=1.0, margin=-1, gamma=-1, gamma_negative=-1, class_weights=[1.0, 0.0])
    assert len(caught.value.messages) == 5


def test_a_loss_that_does_not_go_with_the_labels_is_refused_with_every_reason():
    with pytest.raises(UserError) as caught:
        LabelLoss("asymmetric", class_weights=[1.0]).check(NAMES, "multiclass")
    assert ["take focal" in caught.value.messages[0], "1 numbers for 3 classes" in caught.value.messages[1]] == [1, 1]
