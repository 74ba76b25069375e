import ast

import pytest
from chains_of import chain, own, written

import xrayssl
from xrayssl.chains import graph, identity, kind, spec


@pytest.fixture
def made(tmp_path):
    study = spec.asked(own(written(tmp_path, {"a": ["tune"]})), [])
    return kind.rehearsed(study.recipes[0].steps[0], None)


def key(made, start=None, **changes):
    config = {part: dict(made.config[part]) for part in ("trainer", "model", "data", "wandb")}
    for part in ("model", "data"):
        config[part]["init_args"] = dict(config[part]["init_args"])
    config["seed_everything"] = changes.pop("seed", 0)
    for name, value in changes.items():
        part, _, option = name.partition("__")
        (config[part]["init_args"] if part in ("model", "data") else config[part])[option] = value
    return identity.key(identity.determining(config, made.identity, start))


@pytest.mark.parametrize("change", [{"seed": 1}, {"model__drop_path": 0.1}, {"trainer__max_epochs": 2}, {"start": "ab"},
                                    {"data__batch_size": 4}, {"data__fraction": 0.5}, {"data__img_size": 64},
                                    {"trainer__accumulate_grad_batches": 2},
                                    {"trainer__limit_test_batches": 1}])  # fmt: skip
def test_what_changes_a_result_changes_the_key(made, change):
    assert key(made, **change) != key(made)


@pytest.mark.parametrize("change", [{"wandb__mode": "online"}, {"trainer__devices": 1}, {"data__num_workers": 3},
                                    {"trainer__enable_progress_bar": True}, {"data__subset_seed": 5},
                                    {"trainer__logger": False}, {"data__corpora": {"phantom": "/else"}}])  # fmt: skip
def test_what_changes_no_result_leaves_the_key(made, change):
    assert key(made, **change) == key(made)


def test_devices_times_accumulation_times_batch_is_what_counts(made):
    accumulated = key(made, data__batch_size=4, trainer__accumulate_grad_batches=2)
    assert accumulated == key(made, data__batch_size=4, trainer__devices=2) == key(made)


MEETING = [("test_vit", "Finetune", False), ("resnet18", "Finetune", True), ("test_vit", "MAEPretrain", False),
           ("test_vit", "MoCo", True)]  # fmt: skip


@pytest.mark.parametrize(("network", "method", "meets"), MEETING)
def test_films_meet_in_batch_norms_and_where_they_are_compared(network, method, meets):
    from xrayssl import methods

    labels = {"classes": ["a", "b"], "task": "multiclass"} if method == "Finetune" else {}
    assert kind.meeting(getattr(methods, method)(backbone=network, img_size=96, **labels)) == meets


def test_where_films_meet_it_counts_how_many_are_together(made):
    def facts(batch, accumulated):
        config = {**made.config, "trainer": {**made.config["trainer"], "accumulate_grad_batches": accumulated},
                  "data": {"init_args": {**made.config["data"]["init_args"], "batch_size": batch}}}  # fmt: skip
        return identity.determining(config, made.identity, None, meeting=True)

    assert identity.key(facts(8, 1)) != identity.key(facts(4, 2)) and facts(8, 1)["batch"] == facts(4, 2)["batch"]
    two, twice = (
        identity.determining(
            {**made.config, "trainer": {**made.config["trainer"], name: 2}}, made.identity, None, 1, True
        )
        for name in ("devices", "accumulate_grad_batches")
    )
    assert two["batch"] == twice["batch"] and identity.key(two) != identity.key(twice)  # films of devices are gathered


def test_films_that_are_mixed_meet():
    from xrayssl.finetuning.mixing import Mixing
    from xrayssl.methods import Finetune

    assert kind.meeting(Finetune(["a", "b"], "multiclass", backbone="test_vit", img_size=96, mixing=Mixing(mixup=0.2)))


def test_a_watching_callback_changes_nothing_and_another_does(made):
    watching = [{"class_path": "xrayssl.callbacks.Reconstructions", "init_args": {"every": 2}}]
    other = [{"class_path": "mine.Callback", "init_args": {}}]
    assert key(made, trainer__callbacks=watching) == key(made) != key(made, trainer__callbacks=other)


def test_the_draw_counts_where_there_is_one(made):
    few = {"data__fraction": 0.5}
    assert key(made, **few, data__subset_seed=1) != key(made, **few)


def test_films_count_by_what_they_are_and_not_by_where_they_lie(tmp_path):
    options = {"body": "shoulder", "films": 24, "size": 48, "root": str(tmp_path)}
    corpora = {"same": options | {"seed": 2}, "other": options | {"seed": 1}}
    recipes = {name: chain(("tune", {"data.corpora.phantom": one})) for name, one in corpora.items()}
    study = written(tmp_path, recipes)
    made = graph.build(spec.asked(own(study), []), tmp_path / "stages")
    plain = graph.build(spec.asked(own(written(tmp_path, {"a": ["tune"]})), []), tmp_path / "stages")
    same, other = (result.stage for result in made.results)
    assert same == plain.results[0].stage != other


def test_a_file_counts_by_its_content(made, tmp_path):
    for name in ("one", "copy"):
        (tmp_path / name).write_bytes(b"weights")
    (tmp_path / "two").write_bytes(b"others")
    one, copy, two = (key(made, model__tokenizer=str(tmp_path / name)) for name in ("one", "copy", "two"))
    assert one == copy != two


def test_a_run_that_an_option_names_counts_by_its_last_checkpoint(made, tmp_path):
    keys = []
    for run, content in (("here", b"1"), ("there", b"1"), ("other", b"2")):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints" / "last.ckpt").write_bytes(content)
        keys.append(key(made, model__tokenizer=str(tmp_path / run)))
    assert keys[0] == keys[1] != keys[2]


def test_comments_and_docstrings_of_the_code_do_not_count_and_code_does():
    plain = "def f(a):\n    return a + 1\n"
    told = '"""M."""\n\n\ndef f(a):  # why\n    """D.\n\n    E."""\n    return a + 1\n'
    assert identity.effective(told) == identity.effective(plain) != identity.effective(plain.replace("1", "2"))


def test_a_hash_inside_a_text_is_code():
    assert identity.effective('x = "a # b"') != identity.effective('x = "a # c"')


def test_no_training_runs_through_the_sources_that_do_not_count():
    package = identity.Path(xrayssl.__file__).parent
    counted = {path.relative_to(package).with_suffix("").as_posix() for path in identity.sources()}
    assert {
        "methods/mae",
        "data/datamodule",
        "optim",
        "callbacks/checkpoints",
        "metrics",
        "statistics/ranking",
    } <= counted
    front = {"train", "lightning_cli", "request", "settings", "callbacks/__init__"}  # who hands over, and tells
    crossing = {(name, one) for name in counted - front for one in imported(package / f"{name}.py") if follows(one)}
    assert crossing == set()


def follows(module):
    parts = module.split(".")[1:]
    return bool({*parts[:1], "/".join(parts[:2])} & identity.FOLLOWING)


def imported(path):
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    for node in nodes:
        names = (
            [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "xrayssl" else [node.module or ""]
        )
        yield from (name for name in names if name.startswith("xrayssl."))
