from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from scantwin import NOTICE
from scantwin.errors import InputError, Rejection
from scantwin.generation.lesion_data import make_lesion_data
from scantwin.generation.lesion_masks import Shape, borrowed, drawn, shapes_of
from scantwin.generation.lesion_orders import Order
from scantwin.generation.lesion_sources import Drawn, FromPatients, Sampled
from scantwin.generation.organ_cases import make_organs
from scantwin.generation.scene import Scene, around_organs
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume


@pytest.fixture
def scenes(make_torso):
    return [lambda k=k: Scene.of(make_torso(80 + k, tumour=k == 1)) for k in range(2)]


def volumes(folder):
    return read_nifti(folder / "CT.nii.gz", "HU"), *(
        read_nifti(folder / f"{name}.nii.gz", "label").array for name in ("SEG", "region")
    )


def test_a_borrowed_lesion_takes_no_more_of_its_organ_than_a_sampled_one(scenes):
    """At most 12 %: a lesion of 0.48 ml (six voxels, the fewest) fits into a liver of 8 ml, not one of 2."""
    scene = scenes[0]()
    liver = np.argwhere(scene.classes == ORGAN_LABEL["liver"])
    lesion = Shape(np.ones((1, 2, 3), bool), scene.ct.spacing, "other", "other")
    for ml, fits in ((8.0, True), (2.0, False)):
        classes = np.where(scene.classes == ORGAN_LABEL["liver"], ORGAN_LABEL["fat"], scene.classes)
        near = np.argsort(((liver - liver.mean(0)) ** 2).sum(1))[: round(ml / scene.ct.voxel_ml)]
        classes[tuple(liver[near].T)] = ORGAN_LABEL["liver"]
        small = replace(scene, classes=classes)
        found = borrowed(small, "liver", np.random.default_rng(0), [lesion], np.zeros(scene.ct.shape, bool))
        assert (found is not None) == fits, ml


def test_the_balance_asked_for_is_the_balance_made(painter, scenes, tmp_path):
    said = make_lesion_data(painter, scenes, Sampled(), Order(6, {"lung": 2.0, "liver": 1.0}), tmp_path)
    assert (said["cases"], said["lesions"], said["balance"]) == (6, 6, {"lung": 4, "liver": 2})
    assert said["notice"] == NOTICE
    assert json.loads((tmp_path / "dataset.json").read_text())["balance"] == said["balance"]


def test_a_case_is_a_study_whose_label_is_the_lesion(painter, scenes, tmp_path):
    make_lesion_data(painter, scenes, Sampled(), Order(1, {"liver": 1.0}), tmp_path)
    folder = tmp_path / "case-0000"
    before = scenes[0]()
    ct, labels, region = volumes(folder)
    (lesion,) = json.loads((folder / "manifest.json").read_text())["lesions"]
    mask = labels == lesion["label"]
    assert (before.classes[mask] == ORGAN_LABEL["liver"]).all()
    assert (region[mask] == 1).all()
    assert region.sum() > mask.sum()  # the ring
    assert np.array_equal(ct.array[region == 0], before.ct.array[region == 0])
    assert lesion["volume_ml"] == pytest.approx(mask.sum() * ct.voxel_ml, rel=0.01)
    study = read_study(find_studies(folder)[0])
    assert study.lesions is not None
    assert study.lesions.array.max() == 1
    assert Image.open(folder / "picture.png").width > 300


def test_known_lesions_are_kept_and_stay_labelled(painter, scenes, tmp_path):
    make_lesion_data(painter, scenes[1:], Sampled(), Order(1, {"liver": 1.0}), tmp_path)
    known = scenes[1]().lesions
    ct, labels, region = volumes(tmp_path / "case-0000")
    assert np.array_equal(labels[known > 0], known[known > 0])
    assert not region[known > 0].any()
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert np.array_equal(ct.array[known > 0], scenes[1]().ct.array[known > 0])


def test_a_mask_of_0_and_255_is_one_lesion_and_made_ones_follow(painter, make_torso, tmp_path):
    study = make_torso(81)
    binary = study.lesions.with_array(np.where(study.lesions.array > 0, 255, 0).astype(np.uint8))
    scene = Scene.of(replace(study, lesions=binary))
    make_lesion_data(painter, [lambda: scene], Sampled(), Order(1, {"liver": 1.0}), tmp_path)
    _, labels, _ = volumes(tmp_path / "case-0000")
    assert labels.dtype == np.uint16
    assert np.array_equal(labels == 1, binary.array > 0)
    assert set(np.unique(labels)) == {0, 1, 2}
    told = json.loads((tmp_path / "case-0000" / "manifest.json").read_text())
    assert (told["known_lesions"], told["lesions"][0]["label"]) == (1, 2)


def test_lesions_are_numbered_from_1_in_the_order_of_their_labels(make_torso):
    study = make_torso(81)
    labels = np.zeros(study.ct.shape, np.uint16)
    labels[0, 0, :3] = 300, 7, 41
    scene = Scene.of(replace(study, lesions=study.lesions.with_array(labels)))
    assert scene.lesions[0, 0, :3].tolist() == [3, 1, 2]
    many = Volume(np.arange(66_000, dtype=np.int32).reshape(24, 50, 55), (5.0, 4.0, 4.0), unit="label")
    with pytest.raises(InputError, match="65,999 numbers"):
        Scene.of(Study("specks", many.with_array(np.zeros(many.shape, np.int16), "HU"), lesions=many))


def test_cases_without_a_lesion_are_made_anew_too(painter, scenes, tmp_path):
    said = make_lesion_data(painter, scenes[:1], Sampled(), Order(4, {"lung": 1.0, "none": 1.0}), tmp_path)
    assert (said["lesions"], said["without_lesion"]) == (2, 2)
    for number in range(4):
        ct, labels, region = volumes(tmp_path / f"case-{number:04d}")
        assert region.any()
        assert (ct.array != scenes[0]().ct.array).any()
        told = json.loads((tmp_path / f"case-{number:04d}" / "manifest.json").read_text())
        assert labels.any() == bool(told["lesions"])


def test_stopped_it_goes_on_and_makes_the_same(painter, scenes, tmp_path):
    order = Order(3, {"lung": 1.0, "liver": 1.0}, seed=5)
    make_lesion_data(painter, scenes, Sampled(), order, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(done, total, text=""):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        make_lesion_data(painter, scenes, Sampled(), order, tmp_path / "part", advance=stop)
    first = (tmp_path / "part" / "case-0000" / "CT.nii.gz").stat().st_mtime_ns
    make_lesion_data(painter, scenes, Sampled(), order, tmp_path / "part")
    assert (tmp_path / "part" / "case-0000" / "CT.nii.gz").stat().st_mtime_ns == first
    for number in range(3):
        one, two = (volumes(tmp_path / side / f"case-{number:04d}") for side in ("whole", "part"))
        assert np.array_equal(one[0].array, two[0].array)
        assert np.array_equal(one[1], two[1])


def test_a_folder_holds_one_order(painter, scenes, tmp_path):
    make_lesion_data(painter, scenes, Sampled(), Order(1, {"lung": 1.0}), tmp_path)
    with pytest.raises(InputError, match="another data set"):
        make_lesion_data(painter, scenes, Sampled(), Order(1, {"liver": 1.0}), tmp_path)
    assert make_lesion_data(painter, scenes, Sampled(), Order(2, {"lung": 1.0}), tmp_path)["cases"] == 2


def test_a_smaller_count_takes_no_case_away(painter, scenes, tmp_path):
    for count in (3, 1):
        said = make_lesion_data(painter, scenes, Sampled(), Order(count, {"lung": 1.0}), tmp_path)
        assert (said["cases"], said["lesions"], said["balance"], len(said["files"])) == (3, 3, {"lung": 3}, 3)
        told = json.loads((tmp_path / "dataset.json").read_text())["made"]
        assert [case["case"] for case in told] == ["case-0000", "case-0001", "case-0002"]


def test_a_folder_that_is_no_case_of_ours_is_left_as_it_is(painter, scenes, tmp_path):
    mine = tmp_path / "case-0001" / "mine.txt"
    order = Order(2, {"lung": 1.0})
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(InputError, match=r"order\.json"):
        make_lesion_data(painter, scenes, Sampled(), order, tmp_path)
    (tmp_path / "order.json").write_text(json.dumps(order.told()))
    with pytest.raises(InputError, match=r"case-0001 is not empty, and has no manifest\.json"):
        make_lesion_data(painter, scenes, Sampled(), order, tmp_path)
    assert mine.exists() and not (tmp_path / "case-0000").exists(), "refused before the work"


def test_an_order_of_which_nothing_could_be_made_does_not_bar_the_next(painter, scenes, tmp_path):
    with pytest.raises(InputError, match="kidney"):
        make_lesion_data(painter, scenes, Sampled(), Order(1, {"kidney": 1.0}), tmp_path)
    assert make_lesion_data(painter, scenes, Sampled(), Order(1, {"lung": 1.0}), tmp_path)["cases"] == 1


def test_an_organ_that_no_ct_has_is_said(painter, scenes, tmp_path):
    with pytest.raises(InputError, match="kidney"):
        make_lesion_data(painter, scenes, Sampled(), Order(1, {"kidney": 1.0}), tmp_path)


def test_another_patients_shape_is_taken(painter, make_torso, scenes, tmp_path):
    donor = make_torso(5)
    shapes = shapes_of(donor.name, donor.lesions)
    assert len(shapes) == 2
    masks = FromPatients(shapes)
    make_lesion_data(painter, scenes[:1], masks, Order(1, {"liver": 1.0}), tmp_path)
    _, labels, _ = volumes(tmp_path / "case-0000")
    wanted = [shape.mask.sum() for shape in shapes]
    assert min(wanted) * 0.6 <= (labels > 0).sum() <= max(wanted)
    with pytest.raises(InputError, match="whose shape"):
        FromPatients([])


def test_another_patient_is_not_another_study(make_torso, scene):
    shapes = [
        shape for name, patient in (("may", "anna"), ("june", "anna"), ("july", "bert"))
        for shape in shapes_of(name, make_torso(5).lesions, patient)
    ]  # fmt: skip
    masks = FromPatients(shapes, {"may": {"anna"}, "june": {"anna"}, "july": {"bert"}})
    assert {shape.study for shape in masks.others("may")} == {"july"}
    assert {shape.study for shape in masks.others("july")} == {"may", "june"}
    assert {shape.study for shape in masks.others("of another folder")} == {"may", "june", "july"}
    ambiguous = FromPatients(shapes, {"may": {"anna", "bert"}, "june": {"anna"}})
    assert not ambiguous.others("may"), "two studies have the name"
    random = np.random.default_rng(0)
    assert ambiguous(replace(scene, name="may"), ["liver"], random) is None
    assert ambiguous(replace(scene, name="june"), ["liver"], random)[0].origin == "of july"
    with pytest.raises(InputError, match="another patient's"):
        FromPatients(shapes[:4], {"may": {"anna"}, "june": {"anna"}})


def test_a_drawn_mask_stays_where_it_was_drawn(painter, scenes, tmp_path):
    scene = scenes[0]()
    drawing = np.zeros(scene.ct.shape, np.uint8)
    drawing[11:14, 20:24, 32:36] = drawing[11:14, 20:24, 12:15] = 1
    masks = Drawn(scene.ct.with_array(drawing, "label"))
    said = make_lesion_data(painter, scenes[:1], masks, Order(2, {"drawn": 1.0}), tmp_path)
    assert said["balance"] == {"lung": 2, "liver": 2}
    for number in range(2):
        _, labels, _ = volumes(tmp_path / f"case-{number:04d}")
        assert np.array_equal(labels > 0, drawing > 0)


def test_a_drawing_over_a_known_lesion_leaves_it_as_it_is(painter, scenes, tmp_path):
    """The known one keeps its voxels, its number and its CT; what is drawn beside it is made."""
    scene = scenes[1]()
    known = scene.lesions
    drawing = np.zeros(scene.ct.shape, np.uint8)
    drawing[12, 10:34, 34] = 1
    beside = (drawing > 0) & (scene.classes > 0) & (known == 0)
    assert (drawing[known > 0] > 0).any() and beside.any()
    masks = Drawn(scene.ct.with_array(drawing, "label"))
    make_lesion_data(painter, [lambda: scene], masks, Order(1, {"drawn": 1.0}), tmp_path)
    ct, labels, region = volumes(tmp_path / "case-0000")
    assert np.array_equal(labels[known > 0], known[known > 0])
    assert np.array_equal(labels > known.max(), beside)
    assert (region[labels > known.max()] == 1).all()
    assert np.array_equal(ct.array[known > 0], scene.ct.array[known > 0])
    told = json.loads((tmp_path / "case-0000" / "manifest.json").read_text())
    assert {lesion["label"] for lesion in told["lesions"]} == set(np.unique(labels)) - {0, 1, 2}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("known", "marks nothing but known lesions"),
        ("air", "wholly outside of the body of torso-81"),
        ("known and air", "marks nothing but known lesions"),
        ("nowhere", "marks nothing on the CT of torso-81"),
    ],
)
def test_a_drawing_of_which_nothing_is_left_is_refused_with_the_reason(
    painter, scenes, tmp_path, place, words
):
    scene = scenes[1]()
    drawing = np.zeros(scene.ct.shape, np.uint8)
    if "known" in place:
        drawing[scene.lesions == 1] = 1
    if "air" in place:
        drawing[:, 0, 0] = 1
    masks = Drawn(scene.ct.with_array(drawing, "label"))
    with pytest.raises(InputError, match=words) as error:
        make_lesion_data(painter, [lambda: scene], masks, Order(1, {"drawn": 1.0}), tmp_path)
    assert "organs.nii.gz" not in error.value.hint
    assert "draw" in error.value.hint.lower()


def test_the_plan_of_more_cases_begins_with_that_of_fewer():
    balance = {"lung": 3.0, "liver": 2.0, "none": 1.0}
    few, many = (Order(count, balance, per_case=2).plan() for count in (5, 30))
    assert many[:5] == few
    made = Counter(organ for case in many for organ in case)
    assert made["lung"] / made["liver"] == pytest.approx(1.5, rel=0.15)
    assert all(len(case) == 2 or case == ["none"] for case in many)


@pytest.mark.parametrize(
    "balance",
    [
        {}, {"gas": 1.0}, {"lung": 0.0}, {"lungs": 1.0}, {"lung": float("nan")}, {"lung": float("inf")},
        {"liver": 1.0, "lung": float("nan")}, {"lung": 1e308, "liver": 1e308},
    ],
)  # fmt: skip
def test_a_balance_that_cannot_be_made_is_refused(balance):
    with pytest.raises(InputError, match="balance"):
        Order(1, balance)


@pytest.mark.parametrize("outside_mm", [None, 12.0])
def test_organs_are_made_anew_inside_or_around(painter, scene, tmp_path, outside_mm):
    said = make_organs(painter, scene, ["lung", "liver"], tmp_path / "out", outside_mm=outside_mm)
    ct = read_nifti(tmp_path / "out" / "CT.nii.gz", "HU").array
    organs = scene.organ("lung", "liver")
    changed = ct != scene.ct.array
    assert changed.any()
    assert not (changed & (organs if outside_mm else ~organs)).any()
    assert said["notice"] == NOTICE
    with pytest.raises(InputError, match="no spleen"):
        make_organs(painter, scene, ["spleen"], tmp_path / "none")
    with pytest.raises(InputError, match="nothing within 12 mm around lung"):
        around_organs(replace(scene, classes=np.where(scene.organ("lung"), scene.classes, 0)), ["lung"], 12.0)


@given(
    shares=st.dictionaries(
        st.sampled_from(["lung", "liver", "kidney", "bone", "none"]), st.integers(1, 5), min_size=1
    ),
    per_case=st.integers(1, 5),
    fewer=st.integers(1, 20),
)
def test_a_plan_keeps_its_balance_and_its_beginning(shares, per_case, fewer):
    balance = {name: float(share) for name, share in shares.items()}
    plan = Order(60, balance, per_case).plan()
    assert Order(fewer, balance, per_case).plan() == plan[:fewer]
    assert all(len(case) == per_case or case == ["none"] for case in plan)
    none = plan.count(["none"])
    # What is due but not given is below one turn for each of those that wait.
    assert abs(none - 60 * balance.get("none", 0) / sum(balance.values())) <= len(balance)
    made = Counter(organ for case in plan for organ in case if organ != "none")
    organs = {name: share for name, share in balance.items() if name != "none"}
    for name, share in organs.items():
        assert abs(made[name] - (60 - none) * per_case * share / sum(organs.values())) <= len(balance)


def test_lesions_of_a_case_find_room_beside_each_other(scene):
    alone = Sampled()(scene, ["lung"], np.random.default_rng(1))
    donor = shapes_of("other", scene.ct.with_array(alone[0].region.astype(np.uint8), "label"))
    for masks in (Sampled(), FromPatients(donor)):
        first = masks(scene, ["lung"], np.random.default_rng(1))[0].region
        together = 0
        for seed in range(12):
            found = masks(scene, ["lung"] * 3, np.random.default_rng(seed))
            if found is None:
                continue
            together += 1
            parts = np.any([one.region for one in found], axis=0)
            assert ndimage.label(parts, np.ones((3, 3, 3)))[1] == 3
            if seed == 1:
                assert np.array_equal(found[0].region, first)
        assert together == 12


def test_a_drawing_is_kept_once_whatever_it_holds_and_hundreds_of_specks_are_refused(scene):
    specks = np.zeros(scene.ct.shape, np.uint8)
    specks[::8, ::8, ::8] = 1
    found = Drawn(scene.ct.with_array(specks, "label"))(scene, [], np.random.default_rng(0))
    assert len(found) == (specks & (scene.classes > 0)).sum() > 20
    assert {id(one.parts) for one in found} == {id(found[0].parts)}
    assert all(one.region.sum() == 1 for one in found)
    specks[::2, ::2, ::2] = 1
    with pytest.raises(InputError, match="parts, and each would be a lesion"):
        drawn(scene, scene.ct.with_array(specks, "label"))


def test_a_drawing_of_litres_is_refused(scene):
    """A CT's positive half was made a lesion of 2.6 litres."""
    body = scene.ct.with_array((scene.classes > 0).astype(np.uint8), "label")
    larger = replace(scene, ct=replace(scene.ct, spacing=(5.0, 5.0, 5.0)))
    assert (scene.classes > 0).sum() * larger.ct.voxel_ml > 2000
    with pytest.raises(InputError, match=r"marks \d\.\d litres of the body of torso-77 as lesions"):
        drawn(larger, replace(body, spacing=(5.0, 5.0, 5.0)))
    some = np.zeros(scene.ct.shape, np.uint8)
    some[4:20, 14:30, 16:32] = 1
    assert drawn(scene, body.with_array(some))[1] == 1, "a third of a litre is a lesion"


def test_a_ct_that_cannot_be_read_is_left_out_and_said_once(painter, scenes, tmp_path):
    def damaged():
        raise Rejection("The file is cut short.", code="nifti.unreadable")

    said, order = [], Order(4, {"liver": 1.0})
    made = make_lesion_data(
        painter, [damaged, *scenes], Sampled(), order, tmp_path / "made", refused=said.append
    )
    assert made["cases"] == 4 and made["cts"] == 2 and len(said) == 1
    with pytest.raises(Rejection):
        make_lesion_data(painter, [damaged, *scenes], Sampled(), order, tmp_path / "other")
    with pytest.raises(InputError, match="None of the 1 CTs can be used"):
        make_lesion_data(painter, [damaged], Sampled(), order, tmp_path / "none", refused=said.append)
    spleen = Order(1, {"spleen": 1.0})
    with pytest.raises(InputError, match="None of the 2 CTs has room for a lesion in spleen"):
        make_lesion_data(
            painter, [damaged, *scenes], Sampled(), spleen, tmp_path / "room", refused=said.append
        )
