"""A model card (Mitchell et al. 2019, arXiv:1810.03993) from what a run recorded of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayssl.classifier import Classifier
from xrayssl.data.viewing import Viewing

TODO = "*To be filled in by whoever publishes these weights.*"
HEADLINE = ("auroc_macro", "auprc_macro", "balanced_accuracy", "accuracy", "kappa", "ece", "ece_scaled", "brier")
PER_CLASS = ("auroc", "auprc", "sensitivity", "specificity", "ppv", "npv")
RECIPE = ("mode", "optim", "drop_path", "ema", "loss", "mixing", "tta", "pooling", "head_hidden", "unfreeze_after")
SCHEDULE = ("max_epochs", "max_steps", "accumulate_grad_batches", "precision")
SPLITS = {"train": "to learn from", "val": "to choose the checkpoint", "test": "to test"}
WINDOWS = {
    "voi": "a DICOM file's own VOI LUT or window; films deeper than 8 bit from their darkest to their brightest pixel",
    "percentile": "from percentile {0:g} to {1:g} of a film's grey values",
    "none": "the whole grey scale",
}


def card(classifier: Classifier, record: Mapping[str, Any], files: Sequence[str]) -> str:
    """Writes the card in Markdown.

    Args:
        classifier: That is handed out.
        record: The run's run.json.
        files: That lie beside the card.
    """
    parts = {
        f"Model card: {record.get('config') or 'classifier'}": _what(classifier, files),
        "Intended use": _use(classifier),
        "Films it saw": _data(classifier, record),
        "Recipe": _recipe(classifier, record),
        "What it was measured on, and how it did": _figures(classifier),
        "Operating point": _operating(classifier),
        "Limits": _limits(classifier),
        "Lineage": _lineage(classifier, record),
        "Licence": [f"Of the weights: {TODO} The licences of the films and of every parent bind them."],
    }
    sections = (["#" * (1 if place == 0 else 2) + f" {title}", *lines] for place, (title, lines) in
                enumerate(parts.items()))  # fmt: skip
    return "\n\n".join(line for section in sections for line in section) + "\n"


def preprocessing(viewing: Viewing, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """From a file to what the network takes, a sentence for each step."""
    height, width = viewing.size
    black_and_white, stored = WINDOWS[viewing.kind].format(*viewing.limits), viewing.recipe
    steps = [f"Read the film as grey, dense is bright. Black and white: {black_and_white}."]
    steps += ["Cut empty borders off."] * (viewing.augment.trim or (stored is not None and stored.trim))
    if stored is not None:
        steps.append(f"Average it down until its short side has {stored.size} pixels, if it has more.")
    steps += ["Even its contrast out: CLAHE, clip limit 2, 8 x 8 tiles."] * viewing.augment.clahe
    steps.append(f"Cut out the largest middle part with the aspect {height} : {width} (height : width), and resize it "
                 f"to {height} x {width} pixels, with every pixel counting.")  # fmt: skip
    steps += ["Blacken what lies outside the largest circle inside."] * viewing.augment.circle
    return [*steps, f"Grey values of 0-255 become (grey / 255 - {_few(mean)}) / {_few(std)}."]


def _what(classifier: Classifier, files: Sequence[str]) -> list[str]:
    method, backbone = classifier.method, classifier.method.backbone
    kind = {"multiclass": "one of these classes", "multilabel": "each of these findings, independently"}[method.task]
    parameters = sum(value.numel() for value in method.parameters())
    return [
        f"A {backbone.architecture} of timm ({parameters / 1e6:.1f} million parameters) that reads radiographs of "
        f"{backbone.img_size[0]} x {backbone.img_size[1]} pixels in {backbone.in_chans} channel(s) and gives a "
        f"probability for {kind}: {', '.join(classifier.classes)}.",
        f"Files: {', '.join(f'`{name}`' for name in files)}.",
    ]


def _use(classifier: Classifier) -> list[str]:
    return [
        "Research on radiographs like those it was trained on. It is no medical device: no diagnosis, triage or "
        "treatment may rest on it. Whoever wants to use it on other films, of other machines, sites or patients, has "
        "to measure it there first.",
        f"Further: {TODO}",
    ]


def _data(classifier: Classifier, record: Mapping[str, Any]) -> list[str]:
    known = record.get("data") or {}
    names = ", ".join(known.get("corpora") or {}) or "not recorded"
    split = f"{_count(known.get('films'))} films of {_count(known.get('patients'))} patients, split by patient"
    told = [f"{count:,} {SPLITS[name]}" for name, count in (known.get("splits") or {}).items() if name in SPLITS]
    lines = [
        f"* Corpora: {names}; {': '.join([split, ', '.join(told)] if told else [split])}.",
        f"* Checksum of films, patients, splits and labels: `{known.get('checksum') or 'not recorded'}`.",
    ]
    if "phantom" in (known.get("corpora") or {}):
        lines.append("* Phantoms are rendered, not patients: what was learned from them says nothing about people.")
    parts = {name: classifier.data.get(name) for name in ("fold", "fraction", "shots", "exclude")}
    lines += [f"* {name}: {value}." for name, value in parts.items() if value not in (None, [], 1.0)]
    steps = preprocessing(classifier.viewing, *_statistics(classifier))
    return ["\n".join(lines), "Each film, before the network:", _numbered(steps)]


def _recipe(classifier: Classifier, record: Mapping[str, Any]) -> list[str]:
    arguments, trainer = classifier.config["model"].get("init_args") or {}, classifier.config.get("trainer") or {}
    found = {name: arguments[name] for name in RECIPE if arguments.get(name) not in (None, 0, 0.0)}
    found |= {"augment": classifier.data.get("augment"), "batch_size": classifier.data.get("batch_size")}
    found |= {name: trainer[name] for name in SCHEDULE if trainer.get(name) not in (None, 0, -1)}
    lines = [f"* {name}: {_spell(value)}" for name, value in found.items() if value is not None]
    lines += [f"* {name}: {value}, found by a search and used in the place of the above"
              for name, value in (record.get("found") or {}).items()]  # fmt: skip
    return [f"Fine-tuned with `{record.get('method', 'Finetune')}` of xrayssl; checkpoint "
            f"`{classifier.checkpoint.name}`, seed {record.get('seed')}.", "\n".join(lines)]  # fmt: skip


def _figures(classifier: Classifier) -> list[str]:
    figures = classifier.figures("test") or classifier.figures("val")
    if figures is None:
        return ["It was not measured: neither test nor validation left figures for these weights."]
    interval = figures["interval"]
    unit = "studies" if figures.get("unit") == "study" else "films"
    lines = [f"{figures.get('studies') or figures['films']:,} {unit} of {figures['patients']:,} patients "
             f"({'test' if figures['split'] == 'test' else 'validation'} films). In brackets: {interval['level']:.0%} "
             f"intervals, {interval['method']}, {interval['resamples']:,} resamples."]  # fmt: skip
    if figures["split"] == "val":
        lines.append("**These films chose the checkpoint, so that the figures are too good.** Run `xrayssl test`, "
                     "without options: one with other films or views than the run's own does not count.")  # fmt: skip
    if figures.get("selected_on") == "test":
        lines.append("**The checkpoint was selected on these very test films: every figure here is too good.**")
    metrics = figures["metrics"]
    lines.append(_table(["figure", "value"], ([name, _value(metrics[name])] for name in HEADLINE if name in metrics)))
    kinds = [kind for kind in PER_CLASS if any(f"{kind}/{name}" in metrics for name in classifier.classes)]
    rows = ([name, *(_value(metrics.get(f"{kind}/{name}")) for kind in kinds)] for name in classifier.classes)
    lines += [_table(["class", *kinds], rows)] if kinds else []
    if figures.get("undefined"):
        lines.append(f"Not in the macro means, since an outcome is missing: {', '.join(figures['undefined'])}.")
    return lines


def _operating(classifier: Classifier) -> list[str]:
    operating = classifier.operating
    if operating is None:
        return ["None was chosen: a probability is not a decision, and these are not calibrated."]
    temperature, threshold = operating.get("temperature"), operating.get("threshold") or {}
    rows = ([name, "-" if threshold.get(name) is None else f"{threshold[name]:.4f}"] for name in classifier.classes)
    scaled = "none" if temperature is None else f"{temperature:.3f}, by which logits are divided"
    unit = "studies" if classifier.of_studies else "films"
    mean = " It is one of the mean probability of a study's films." if classifier.of_studies else ""
    return [
        f"Chosen on {operating.get('films')} {operating.get('split')} {unit} by the rule "
        f"{str(operating.get('rule')).capitalize()}; a class counts as present from its threshold on, which is one of "
        f"probabilities before calibration.{mean} Temperature for calibration: {scaled}.",
        _table(["class", "threshold"], rows),
        "It is that of these films and their frequencies; another site needs its own.",
    ]


def _limits(classifier: Classifier) -> list[str]:
    return [
        "* Films outside the training set's anatomy, projection, machines or age groups get confident nonsense.\n"
        "* Labels of public corpora are partly taken from reports by machine; the network learned their mistakes.\n"
        "* It may follow markers, devices or borders in place of anatomy. `xrayssl predict --overlay` shows where it "
        "looks; a plausible map is no proof that it is right.\n"
        "* Subgroups (sex, age, view) are in the run's metrics.json where the corpus tells them; others were not "
        "measured.",
    ]


def _lineage(classifier: Classifier, record: Mapping[str, Any]) -> list[str]:
    parents = [f"{parent.get('method')}: `{parent.get('sha256')}`"
               + (", **selected on test films**" if parent.get("selected_on") == "test" else "")
               for parent in classifier.method.parents]  # fmt: skip
    versions = record.get("packages") or {}
    made = [f"xrayssl {versions.get('xrayssl')}", f"torch {versions.get('torch')}", f"timm {versions.get('timm')}"]
    return [
        _numbered(parents) or "The backbone started from random weights.",
        f"Trained {str(record.get('started') or 'at a time not recorded')[:10]} with {', '.join(made)}; revision "
        f"`{record.get('git') or 'not recorded'}`.",
    ]


def _statistics(classifier: Classifier) -> tuple[list[float], list[float]]:
    backbone = classifier.method.backbone
    return backbone.mean.tolist(), backbone.std.tolist()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines: Iterator[Sequence[str]] = iter([head, ["---"] * len(head), *rows])
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _value(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry.get("value") is None:
        return "-"
    bounds = "" if entry.get("low") is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"
    return f"{entry['value']:.3f}{bounds}"


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def _few(values: Sequence[float]) -> str:
    """Mean or deviation; that of all channels where they share it."""
    return f"{values[0]:.6g}" if len(set(values)) == 1 else f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _count(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_spell(item)}" for name, item in value.items() if item is not None)
    return str(Path(value).name) if isinstance(value, Path) else str(value)
