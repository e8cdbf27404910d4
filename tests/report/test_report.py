import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import torchmotif as tm
from torchmotif.errors import OutputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.names import Names
from torchmotif.plot import motif_style
from torchmotif.plot.assemblies import groups_drawn
from torchmotif.report import moments as report_moments
from torchmotif.report import render
from torchmotif.report.assemblies import hierarchy_section
from torchmotif.report.atlas import cards, resolvable
from torchmotif.report.groups import EMPTY, RIM, UNLIKE, groups_of
from torchmotif.report.moments import layout_of, sampled_moments, spectrum
from torchmotif.report.pixels import grey, picture, shrunk
from torchmotif.report.provenance import dose_statement, provenance, python_code
from torchmotif.statistics import assembly_statistics


class Page(HTMLParser):
    """Elements with their attributes, and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
            self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == "script" else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def unpacked(data: dict[str, object], name: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(str(data[name])), dtype)


def test_nothing_is_fetched_and_no_other_script_may_run(text: str) -> None:
    page = Page(text)
    links = [a.get(key) or "" for _, a in page.elements for key in ("src", "href", "xlink:href") if key in a]
    assert all(link.startswith(("#", "data:image/")) for link in links)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]


def test_the_columns_on_the_page_are_those_of_the_result(text: str, result: tm.MotifResult) -> None:
    data = json.loads(Page(text).scripts[0])
    assert_allclose(
        unpacked(data, "xy", "<f4").reshape(-1, 2)[: len(result.columns), ::-1],
        result.columns.positions,
        rtol=1e-6,
        atol=1e-4,
    )
    group = unpacked(data, "group", "<i2")
    assert (group[len(result.columns) :] == EMPTY).all()
    assert len(group) == len(result.columns) + len(result.empty_sites())
    group = group[: len(result.columns)]
    assert_array_equal(np.maximum(group, -1), result.labels)
    assert_allclose(
        unpacked(data, "probability", "u1")[: len(group)] / 255, result.probabilities, atol=0.5 / 255
    )
    assert [one["number"] for one in data["groups"]] == [*range(result.n_motifs), UNLIKE, EMPTY, RIM]


def test_ids_are_unique_and_references_are_met(text: str) -> None:
    ids = [a["id"] for _, a in Page(text).elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = re.findall(r'(?:href="#|url\(#|aria-labelledby="|aria-describedby=")([^")]+)', text)
    assert set(named) <= set(ids)


def test_every_part_is_there(text: str, result: tm.MotifResult) -> None:
    page = Page(text)
    headings = {a.get("id") for tag, a in page.elements if tag == "section"}
    assert headings == {"map", "atlas", "moments", "symmetry", "hierarchy", "dose", "made"}
    assert sum(a.get("type") == "checkbox" for _, a in page.elements) == result.n_motifs + 4
    assert sum(tag == "svg" and a.get("role") == "img" for tag, a in page.elements) == 4
    for words in ("detected electrons per pixel", "tm.analyze(scan)", "pixels_sha256", "favoured"):
        assert words in page.text


def test_metadata_that_mean_harm_are_shown_as_text(harmful: tm.MotifResult) -> None:
    page = Page(render(harmful))
    assert len(page.scripts) == 2
    assert not [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"]
    assert "window.harmed" in page.text
    assert "{{ 7 * 7 }}" in page.text
    json.loads(page.scripts[0])


def test_groups_part_all_columns(result: tm.MotifResult) -> None:
    groups = groups_of(result)
    assert sum(group.count for group in groups if group.number != EMPTY) == len(result.columns)
    member = result.groups
    assert_array_equal(member >= 0, result.labels >= 0)
    noted = int(re.findall(r"(\d+) of \d+ columns lie at the rim", " ".join(result.record["notes"]))[0])
    assert (member == RIM).sum() == noted


def test_what_is_doubtful_about_names_is_said_where_other_warnings_are(result: tm.MotifResult) -> None:
    names = Names.none(len(result.columns), {"by": "composition", "warnings": ["names: hardly told apart"]})
    assert "names: hardly told apart" in provenance(dataclasses.replace(result, names=names))["warnings"]


def test_a_result_of_which_little_is_known_has_a_report_too(result: tm.MotifResult) -> None:
    bare = dataclasses.replace(result, image=tm.Micrograph(result.image.numpy()), record={})
    text = render(bare)
    assert "the noise of this image does not tell it" in text
    assert "scan = ..." in text


def test_a_motif_without_columns_is_said_to_have_none(result: tm.MotifResult) -> None:
    templates = np.concatenate([result.templates, np.zeros_like(result.templates[:1])])
    assert "no columns" in render(dataclasses.replace(result, templates=templates))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_columns_are_enough(result: tm.MotifResult, n: int) -> None:
    middle = np.argsort(np.abs(result.columns.positions - 150).max(axis=1))[:n]
    columns = tm.Columns(
        result.columns.positions[middle], result.columns.intensities[middle], result.columns.spacing
    )
    few = dataclasses.replace(
        result, columns=columns, labels=result.labels[middle], probabilities=result.probabilities[middle]
    )
    assert ("to count assemblies" in render(few)) == (n < 5)


def test_the_code_on_the_page_makes_the_same_result(tmp_path: Path, result: tm.MotifResult) -> None:
    np.savez(tmp_path / "it's.npz", image=result.image.numpy(), pixel_size_nm=0.02)
    scan = tm.read(tmp_path / "it's.npz")
    first = tm.analyze(scan, n_motifs=2, n_max=6, progress=False)
    scope: dict[str, tm.MotifResult] = {}
    exec(python_code(first), scope)  # noqa: S102
    assert_array_equal(scope["result"].labels, first.labels)
    assert python_code(first).count("=") == 4


def test_names_have_the_colours_of_the_map_and_say_what_they_count(result: tm.MotifResult) -> None:
    named = result.identify("MoSe2")
    looks = named.looks
    assert looks is not None
    section = hierarchy_section(named)
    whole = int(named.whole.sum())
    assert section["note"].startswith(f"{whole:,} columns have their whole patch")
    assert f"not the {len(named.whole) - whole:,} at its rim" in section["note"]
    assert section["levels"][0]["occurrences"] == whole
    drawn = str(section["atlas"].__html__()).lower()
    assert motif_style(looks["V_Se"]).colour.lower() in drawn
    hidden = {motif_style(k).colour.lower() for k in range(7)} - {
        motif_style(k).colour.lower() for k in looks.values()
    }
    assert not any(colour in drawn for colour in hidden)
    pairs = MotifHierarchy(2, corners="none").fit(named.graph)
    statistics = assembly_statistics(pairs, n_samples=20, n_bootstrap=5)
    legend = groups_drawn(pairs, statistics, n=4, looks=looks)["legend"]
    assert {one["name"]: one["colour"] for one in legend}["Mo"] == motif_style(looks["Mo"]).colour
    shown = Page(render(named)).text
    cut = int(np.asarray(named.columns.is_rim).sum())
    assert f"leaves out {cut:,} named columns cut off by the image's border" in shown
    listed = sum(row["count"] for row in named.names.record["table"])  # type: ignore[union-attr]
    assert listed + cut + 1 > sum(named.names.counts.values()) >= listed + cut  # type: ignore[union-attr]
    assert "Composition in atomic per cent, with errors of counting alone: " in shown


def test_the_dose_is_that_of_the_image(result: tm.MotifResult) -> None:
    said = dose_statement(result)
    electrons = float(said[0].split()[0].replace(",", ""))
    assert electrons == pytest.approx(float(result.image.numpy().mean()), rel=0.01)
    assert "as was given with the image" in said[0]


def test_the_dose_of_a_particle_is_told_by_the_image_not_by_what_its_columns_differ_by() -> None:
    particle = tm.datasets.nanoparticle((320, 320), radius_nm=1.8, axis="001", electrons_per_pixel=100.0)
    counts = particle.draw(generator=torch.Generator().manual_seed(0)).numpy()
    found = tm.analyze(tm.Micrograph(2.0 * counts), progress=False)
    electrons = float(dose_statement(found)[0].split()[0].replace(",", ""))
    assert electrons == pytest.approx(counts.mean(), rel=0.15)
    assert "noise of the image" in dose_statement(found)[0]
    assert found.record["found"]["electrons_per_count"] == pytest.approx(0.5, rel=0.15)
    old = {name: value for name, value in found.record["found"].items() if "of_patches" not in name}
    assert "noise of the patches" in dose_statement(dataclasses.replace(found, record={"found": old}))[0]


def test_an_offset_of_the_detector_is_pointed_at(result: tm.MotifResult) -> None:
    record = {"found": {"electrons_per_count": 1.0}}
    raw = tm.Micrograph(result.image.numpy())
    assert "offset" not in " ".join(dose_statement(dataclasses.replace(result, image=raw, record=record)))
    lifted = tm.Micrograph(result.image.numpy() + 90.0)
    said = " ".join(dose_statement(dataclasses.replace(result, image=lifted, record=record)))
    assert "if the darkest pixels have none" in said


def test_cards_say_where_a_motif_sits_and_how_its_brightness_scatters(
    text: str, result: tm.MotifResult
) -> None:
    shown = Page(text).text
    for motif in range(result.n_motifs):
        assert result.sites.where(motif) in shown
    median, low, high = cards(result)[0]["brightness"]
    assert low < median < high
    assert f"({low:.2f}–{high:.2f})" in shown


def test_the_sample_has_the_rare_motifs_and_is_laid_out(result: tm.MotifResult) -> None:
    sample = sampled_moments(result)
    assert (result.labels[sample.index] >= -1).all()
    assert set(result.labels[result.labels >= 0]) <= set(result.labels[sample.index])
    layout = layout_of(sample)
    assert layout is not None
    assert layout.shape == (len(sample.index), 2)


def test_the_noise_of_moments_is_in_units_of_the_patches(
    result: tm.MotifResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(of_image: float, of_patches: float) -> np.ndarray:
        drawn: dict[str, np.ndarray] = {}
        monkeypatch.setattr(report_moments, "inline_svg", lambda *_, **given: drawn.update(given))
        gains = {"electrons_per_count": of_image, "electrons_per_count_of_patches": of_patches}
        record = {**result.record, "found": {**result.record["found"], **gains}}
        spectrum(dataclasses.replace(result, record=record), sampled_moments(result))
        return drawn["noise"]

    assert_allclose(noise(1.0, 2.0), noise(4.0, 2.0))
    assert_allclose(noise(1.0, 2.0), noise(1.0, 4.0) * 2)


def split(
    first: list[int], second: list[int], distance: float, dose: float | None, columns: float | None = None, *,
    resolved: bool = True,
) -> dict[str, object]:  # fmt: skip
    return {
        "motifs": [first, second],
        "detectability": distance,
        "least_relative_dose": dose,
        "least_columns": columns,
        "resolved": resolved,
    }


@pytest.mark.parametrize(
    ("nearest", "answer", "words"),
    [
        (split([1], [2], 6.0, 0.02), "yes", "down to 1/50 of this dose"),
        (split([1], [2], 2.4, 0.9), "only in numbers", "down to 90% of this dose"),
        (
            split([1], [2], 8.0, 1 / 28_006),
            "yes",
            "even at 1/1000 of this dose, where columns are still found",
        ),
        (
            split([1], [2], 1.5, 2.2, 80_123.0, resolved=False),
            "no",
            "about 80,100 columns are needed or 2.2 times this dose",
        ),
        (split([1], [2], 0.2, None, None, resolved=False), "no", "another kind of image is needed"),
    ],
    ids=["yes", "in numbers", "at any dose", "no", "never"],
)
def test_resolvable_goes_by_the_nearest_motif(
    result: tm.MotifResult, nearest: dict[str, object], answer: str, words: str
) -> None:
    hidden = split([0], [0], 1.0, 3.0, 9_000.0, resolved=False)
    splits = [split([0], [1, 2], 9.0, 0.01), nearest, hidden]
    known = dataclasses.replace(result, record={"found": {"resolutions": splits}})
    said = resolvable(known, 1)
    assert said["answer"] == answer
    assert words in said["reason"]
    assert "from motif 2" in said["reason"]
    assert resolvable(known, 0)["answer"] == "yes"
    assert "motifs 1 and 2" in resolvable(known, 0)["reason"]
    assert "may be two motifs" in resolvable(known, 0)["reason"]


def test_a_large_image_stays_below_ten_megabytes() -> None:
    noise = np.random.default_rng(0).poisson(5.0, (2048, 2048)).astype(np.float32)
    assert len(picture(grey(noise))) < 8e6
    assert shrunk(noise[:, :2047], 2).shape == (1024, 1023)
    assert shrunk(noise, 2).mean() == pytest.approx(5.0, abs=0.01)


def test_pixels_that_are_not_finite_do_no_harm() -> None:
    image = np.array([[0.0, np.nan], [np.inf, 10.0]], np.float32)
    assert grey(image, (0.0, 10.0)).tolist() == [[0, 0], [255, 255]]
    assert grey(np.full((2, 2), np.nan, np.float32)).max() == 0


def test_a_file_that_cannot_be_written_is_refused(
    result: tm.MotifResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchmotif.report.page.render", lambda *_: "page")
    with pytest.raises(OutputError, match="cannot be written"):
        result.report(tmp_path / "nowhere" / "report.html")
    result.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "page"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
