import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from xrayssl.probing import knn, linear, probe

NAN = float("nan")


def films(count, classes, seed=0, width=6):
    """Features, and labels that they tell imperfectly."""
    draw = torch.Generator().manual_seed(seed)
    feature = torch.randn(count, width, generator=draw) * torch.arange(1, width + 1) + 3
    direction = torch.randn(width, classes, generator=torch.Generator().manual_seed(9))
    logit = (feature - 3) @ direction / 4 + torch.randn(count, classes, generator=draw)
    return feature, (logit > 0).float(), logit


def slow_knn(bank, label, query, neighbours, temperature):
    score = np.full((len(query), label.shape[1]), np.nan)
    for i, film in enumerate(query):
        for k in range(label.shape[1]):
            known = [n for n in range(len(bank)) if not np.isnan(label[n, k])]
            cosine = {n: film @ bank[n] / np.linalg.norm(film) / np.linalg.norm(bank[n]) for n in known}
            near = sorted(known, key=lambda n: -cosine[n])[:neighbours]
            weight = [np.exp(cosine[n] / temperature) for n in near]
            if near:
                score[i, k] = np.dot(weight, label[near, k]) / np.sum(weight)
    return score


def test_neighbours_vote_as_a_slow_computation_says_unknown_labels_and_a_small_bank_included():
    (bank, label, _), (query, _, _) = films(30, 3), films(7, 3, seed=1)
    label[4:9, 1] = NAN
    label[:, 2] = NAN
    for neighbours in (5, 28):
        expected = slow_knn(bank.double().numpy(), label.numpy(), query.double().numpy(), neighbours, 0.2)
        np.testing.assert_allclose(knn(bank, label, query, neighbours, 0.2), expected, atol=1e-5)


def scaled(bank, query):
    return [((x - bank.mean(0)) / bank.std(0, correction=0)).double().numpy() for x in (bank, query)]


def test_the_linear_probe_of_findings_is_scikit_learns_on_the_known_films_of_each():
    (bank, label, _), (query, _, _) = films(80, 2), films(9, 2, seed=1)
    label[:30, 1] = NAN
    found = linear(bank, label, query, "multilabel", penalty=0.05)
    x, z = scaled(bank, query)
    for k in range(2):
        known = ~label[:, k].isnan().numpy()
        model = LogisticRegression(C=1 / (0.05 * known.sum()), tol=1e-10, max_iter=1000)
        expected = model.fit(x[known], label[known, k]).decision_function(z)
        np.testing.assert_allclose(found[:, k], expected, atol=1e-3)


def test_the_linear_probe_of_classes_is_scikit_learns():
    (bank, _, logit), (query, _, _) = films(80, 3), films(9, 3, seed=1)
    label = torch.nn.functional.one_hot(logit.argmax(1), 3).float()
    found = linear(bank, label, query, "multiclass", penalty=0.05).softmax(1)
    x, z = scaled(bank, query)
    model = LogisticRegression(C=1 / (0.05 * 80), tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(found, model.fit(x, logit.argmax(1)).predict_proba(z), atol=1e-4)


def test_a_film_of_unknown_class_teaches_nothing():
    bank, _, logit = films(20, 3)
    label = torch.nn.functional.one_hot(logit.argmax(1), 3).float()
    more = torch.cat([bank, bank[:1] * 100]), torch.cat([label, torch.full((1, 3), NAN)])
    assert torch.equal(linear(*more, bank, "multiclass"), linear(bank, label, bank, "multiclass"))


def test_a_constant_feature_says_nothing():
    bank, label, _ = films(20, 1)
    wider = torch.cat([bank, torch.ones(20, 1)], dim=1)
    torch.testing.assert_close(linear(wider, label, wider, "multilabel"), linear(bank, label, bank, "multilabel"))


def test_the_figure_is_the_mean_auroc_over_the_classes_that_both_sides_define():
    (bank, label, _), (query, truth, _) = films(60, 4), films(40, 4, seed=1)
    label[:, 1], truth[:, 2] = 0, 1
    truth[5, 0] = NAN
    found = probe(bank, label, query, truth, "multilabel", ["a", "b", "c", "d"])
    assert found.undefined == ["b", "c"]
    for score, figure in (
        (knn(bank, label, query), found.knn),
        (linear(bank, label, query, "multilabel"), found.linear),
    ):
        known = ~truth[:, 0].isnan()
        expected = [roc_auc_score(truth[known, 0], score[known, 0]), roc_auc_score(truth[:, 3], score[:, 3])]
        assert figure == pytest.approx(np.mean(expected))


def test_without_any_defined_class_there_is_no_figure_and_all_are_named():
    bank, label, _ = films(8, 2)
    found = probe(bank, torch.zeros_like(label), bank, label, "multilabel", ["a", "b"])
    assert np.isnan([found.knn, found.linear]).all()
    assert found.undefined == ["a", "b"]


def test_random_numbers_are_neither_drawn_nor_is_a_gradient_left_even_where_inference_mode_is_on():
    bank, label, _ = films(20, 2)
    before = torch.get_rng_state()
    with torch.inference_mode():
        inside = probe(bank * 1, label, bank * 1, label, "multilabel", ["a", "b"])
    assert torch.equal(torch.get_rng_state(), before)
    assert inside == probe(bank, label, bank, label, "multilabel", ["a", "b"])
