from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin import systems
from scantwin.errors import InputError, Rejection
from scantwin.evaluation.held_out import case_of, compare, measure
from scantwin.evaluation.references import REFERENCES, training_statistics
from scantwin.evaluation.report import Patient, evaluate_studies
from scantwin.evaluation.tally import Tally
from scantwin.evaluation.watching import Watch
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning.prepared import prepare
from scantwin.learning.training import train
from scantwin.learning.weights import Model, load_arrays, system_arrays
from scantwin.translation.starter import PHANTOMS_ONLY, SENTENCE
from scantwin.translation.uncertainty import key


@pytest.fixture(scope="module")
def trained(bar_cohort, tiny_recipe):
    system = systems.build(tiny_recipe, seed=1)
    result = train(system, bar_cohort.training, steps=60, seed=1)
    return system, result


def patients(studies):
    return [Patient(study) for study in studies]


def test_sums_over_two_patients_are_the_sum_of_each(trained, bar_cohort):
    system, result = trained
    both = measure(system, bar_cohort.training[:2], trained=result.patches)
    one, two = (measure(system, [s], trained=result.patches) for s in bar_cohort.training[:2])
    for name, value in both.metrics.items():
        assert value == pytest.approx(one.metrics[name] + two.metrics[name], rel=1e-9)
    for name, value in both.statistics.items():
        assert np.allclose(value, one.statistics[name] + two.statistics[name])


def test_a_model_of_which_no_patch_was_counted_is_not_measured(trained, bar_cohort):
    """As at a site that gets a model which nobody has trained: an empty count is not an unknown one."""
    system, _ = trained
    nothing = measure(system, bar_cohort.held_out, trained={})
    assert nothing.metrics == {} and not any(sums.any() for sums in nothing.statistics.values())
    assert measure(system, bar_cohort.held_out).metrics, "an unknown one"


def test_every_region_and_reference_is_there(trained, bar_cohort):
    system, _ = trained
    references = training_statistics(bar_cohort.training)
    metrics = measure(system, bar_cohort.held_out, references).metrics
    for who in ("model", *REFERENCES):
        for region in ("whole-body", "trunk", "legs", "lesions"):
            assert metrics[f"{who}/{region}/mae/n"] == 1
    # What the median is best at: no constant has a smaller absolute error on the training voxels.
    assert metrics["training-median/trunk/mae/sum"] <= metrics["training-mean/trunk/mae/sum"] * 1.01


def test_residual_sums_count_every_voxel_of_the_district(trained, bar_cohort):
    system, _ = trained
    study = bar_cohort.held_out[0]
    statistics = measure(system, [study]).statistics
    assert statistics[key("trunk")][0].sum() == study.mask("trunk").sum()
    assert statistics[key("arms")].sum() == 0


def test_an_error_counts_for_the_networks_that_made_it(trained, bar_cohort):
    system, _ = trained
    study = bar_cohort.held_out[0]
    with_whole = measure(system, [study]).statistics
    assert with_whole[key("whole-body")][0].sum() == study.body.sum(), "as a body that cannot be split"
    assert measure(system, [study], unsplit=0).statistics[key("whole-body")].sum() == 0
    two = measure(system, [study, bar_cohort.training[0]], unsplit=1).statistics[key("whole-body")]
    assert two[0].sum() in (study.body.sum(), bar_cohort.training[0].body.sum()), "one of them"
    moved = {
        name: {key: value + 0.05 for key, value in arrays.items()} if "/whole-body/" in name else arrays
        for name, arrays in system_arrays(system).items()
    }
    other = systems.build(system.recipe, seed=1)
    load_arrays(other, moved)
    changed = measure(other, [study]).statistics
    assert np.array_equal(changed[key("trunk")], with_whole[key("trunk")])
    assert not np.array_equal(changed[key("whole-body")], with_whole[key("whole-body")])


def test_a_patient_without_lesions_has_false_marks_and_one_not_searched_has_none(bar_cohort):
    case = case_of(bar_cohort.held_out[0])
    hot = np.where(case.body, 1.0, 0.0).astype(np.float32)
    spot = tuple(np.argwhere(case.body & ~(case.lesions if case.lesions is not None else case.body))[0])
    hot[spot] = 9.0
    tally = Tally()
    tally.add(hot, case)
    tally.add(hot, replace(case, lesions=np.zeros_like(case.body)))
    tally.add(hot, replace(case, lesions=None))
    at_four = next(point for point in tally.report()["lesions"]["free_response"] if point["threshold"] == 4.0)
    assert at_four["false_marks_per_patient"] == 1.0


def test_a_model_that_diverged_is_said_so_and_has_no_figure(trained, bar_cohort, tiny_recipe):
    system, result = trained
    arrays = {
        name: {key: value * np.float32(np.nan) for key, value in of.items()}
        for name, of in system_arrays(system).items()
    }
    model = Model(tiny_recipe, arrays, {"patches": result.patches})
    with pytest.raises(InputError, match="not numbers"):
        evaluate_studies(systems.scanner_for(model), patients(bar_cohort.held_out), None)
    case = case_of(bar_cohort.held_out[0])
    spoilt = case.true.copy()
    spoilt[tuple(np.argwhere(case.body)[len(np.argwhere(case.body)) // 2])] = np.nan
    assert all(np.isnan(compare(spoilt, case)["whole-body"][m]) for m in ("mae", "bias", "psnr", "ssim"))


def test_a_pet_of_three_slices_has_no_frechet_distance(trained, bar_cohort, tiny_recipe):
    system, result = trained
    model = Model(tiny_recipe, system_arrays(system), {"patches": result.patches})
    study = bar_cohort.held_out[0]
    thin = replace(study, pet=study.pet.crop((20, 10, 12), (23, 13, 15)), pet_lesions=None)
    report = evaluate_studies(systems.scanner_for(model), [Patient(thin)], None)
    assert report["frechet"]["model"] is None and report["whole_body"]["mae"]["mean"] >= 0


def test_what_is_beyond_the_range_is_an_error_and_the_report_says_what_is_clipped(bar_model, make_bar):
    def measured(hottest):
        bar = make_bar(3)
        suv = np.array(bar.pet.array)
        suv[np.asarray(bar.lesions.array) > 0] = hottest
        study = prepare(replace(bar, pet=bar.pet.with_array(suv)), (8.0, 8.0, 8.0))
        return evaluate_studies(systems.scanner_for(bar_model), [Patient(study)], None)

    within, beyond = (measured(hottest)["whole_body"] for hottest in (20.0, 40.0))
    assert set(measured(40.0)["clipped_to_range"]) >= {"psnr", "ssim"}
    assert all(beyond[name] == within[name] for name in ("psnr", "ssim"))
    assert beyond["mae"]["mean"] > within["mae"]["mean"] and beyond["bias"]["mean"] < within["bias"]["mean"]


def test_the_report_has_the_contracts_keys(trained, bar_cohort, tiny_recipe):
    system, result = trained
    model = Model(tiny_recipe, system_arrays(system), {"patches": result.patches})
    report = evaluate_studies(
        systems.scanner_for(model), patients(bar_cohort.held_out), training_statistics(bar_cohort.training)
    )
    assert report["n"] == 1 and report["range"] == [0.0, 20.0]
    assert set(report["whole_body"]) >= {"mae", "psnr", "ssim"}
    assert set(report["whole_body"]["mae"]) == {"mean", "sd", "n"}
    assert set(report["districts"]) == {"trunk", "legs"}
    assert set(report["lesions"]) >= {
        "n",
        "mae",
        "suvmax_error",
        "suvpeak_error",
        "suvmean_bias",
        "inside_limits",
    }
    assert set(report["lesion_regions"]) >= {"mae", "psnr", "ssim"}
    assert report["lesions"]["sd"].keys() >= {"mae", "suvmax_error", "suvpeak_error", "suvmean_bias"}
    nothing = {
        "interval": 0.8, "n": 0, "coverage": None, "lesions": None, "organ_means": None, "by_stated_sd": [],
    }  # fmt: skip
    assert report["uncertainty"] == nothing, "nothing was measured yet"
    assert report["organs"]["n"] == 0 and report["organs"]["inside_limits"] is None, "a patient's are unknown"
    assert report["frechet"]["extractor"].startswith("random-conv") and report["frechet"]["model"] > 0
    assert report["agreement"]["lesions"]["n"] == report["lesions"]["n"] == 1
    assert set(report["references"]) == set(REFERENCES) and report["conditions"]["melanoma"]["n"] == 1


def test_lesion_figures_have_their_spread_over_lesions(trained, bar_cohort, tiny_recipe):
    system, result = trained
    model = Model(tiny_recipe, system_arrays(system), {"patches": result.patches})
    scanner = systems.scanner_for(model)
    one, two, both = (
        evaluate_studies(scanner, patients(studies), None)["lesions"]
        for studies in (bar_cohort.training[:1], bar_cohort.training[1:2], bar_cohort.training[:2])
    )
    for name, sd in both["sd"].items():
        assert both["n"] == 2
        assert sd == pytest.approx(abs(one[name] - two[name]) / np.sqrt(2), rel=1e-6, abs=1e-9)
    assert both["sd"]["mae"] > 0


@pytest.fixture
def of_trunks(bar_model):
    """The model of the bars without its legs and whole bodies."""
    recipe = bar_model.recipe.model_copy(update={"districts": ("trunk",)})
    own = {name: arrays for name, arrays in bar_model.components.items() if "/trunk/" in name}
    return replace(bar_model, recipe=recipe, components=own)


def test_what_a_model_never_learnt_is_told_and_is_in_no_figure(of_trunks, bar_cohort):
    scanner = systems.scanner_for(of_trunks)
    training = training_statistics(bar_cohort.training)
    report = evaluate_studies(scanner, patients(bar_cohort.held_out), training)
    assert any("only a part of the body" in warning for warning in report["warnings"])
    for said in (report, *report["references"].values()):
        assert set(said["districts"]) == {"trunk"}
        assert said["whole_body"]["mae"] == said["districts"]["trunk"]["mae"]
    metrics = measure(scanner.system, bar_cohort.held_out).metrics
    assert metrics["model/whole-body/mae/sum"] == metrics["model/trunk/mae/sum"]
    assert not any("/legs/" in name for name in metrics)
    study = bar_cohort.held_out[0]
    legs = np.where(study.labels == DISTRICT_LABEL["legs"], np.float32(9.0), study.suv)
    watches = [Watch(scanner.system, [one], {}, shown=None) for one in (study, replace(study, suv=legs))]
    assert watches[0].look(1) == watches[1].look(1), "what legs take up is no matter"


def test_a_model_of_phantoms_says_so_in_its_report_too(bar_model, bar_cohort):
    of_phantoms = replace(bar_model, record={**bar_model.record, PHANTOMS_ONLY: True})
    reports = [
        evaluate_studies(systems.scanner_for(model), patients(bar_cohort.held_out), None)
        for model in (bar_model, of_phantoms)
    ]
    assert SENTENCE not in reports[0]["warnings"] and reports[1]["warnings"][0] == SENTENCE


def test_a_district_too_small_for_the_pets_grid_is_left_out(of_trunks, bar_cohort):
    study = bar_cohort.held_out[0]
    labels = np.where(study.body, DISTRICT_LABEL["legs"], 0).astype(np.uint8)
    labels[tuple(np.argwhere(study.body)[0])] = DISTRICT_LABEL["trunk"]
    z, y, x = (int(last) for last in np.argwhere(study.body)[-1])
    far = study.pet.crop((z - 3, y - 3, x - 3), (z + 1, y + 1, x + 1))
    sliver = replace(study, labels=labels, pet=far)
    assert not measure(systems.scanner_for(of_trunks).system, [sliver]).metrics


def test_the_whole_body_is_measured_whatever_districts_a_study_brings(make_bar):
    bar = make_bar(3)
    labels = np.asarray(bar.districts.array).copy()
    labels[labels == DISTRICT_LABEL["legs"]] = 0
    without_legs = replace(bar, districts=bar.districts.with_array(labels, "label"))
    whole, part = (case_of(prepare(study, (8.0, 8.0, 8.0))) for study in (bar, without_legs))
    assert np.array_equal(part.body, whole.body) and np.array_equal(part.true, whole.true)
    assert set(part.masks()) == set(whole.masks()) - {"legs"}
    assert np.array_equal(part.masks()["trunk"], whole.masks()["trunk"])


def test_a_case_without_a_body_is_refused_with_a_sentence(make_bar):
    study = prepare(make_bar(3), (8.0, 8.0, 8.0))
    with pytest.raises(Rejection, match="no voxel of the PET"):
        case_of(replace(study, body=np.zeros_like(study.body)))


@pytest.mark.parametrize("spacing", [(8.0, 4.0, 4.0), (16.0, 16.0, 16.0)])
def test_metrics_are_taken_on_the_pets_own_grid(make_bar, spacing):
    """Else a coarser recipe would be measured against a smoother PET, and do better."""
    bar = make_bar(3)
    study = prepare(bar, spacing)
    case = case_of(study)
    assert study.grid.spacing == spacing and case.grid.spacing == bar.pet.spacing
    own, body = bar.pet.array, np.asarray(bar.districts.array) > 0
    assert np.array_equal(case.true, case.grid.array)
    assert case.true[case.body].max() == own[body].max() and np.isin(case.true, own).all()
    assert case.body.sum() == pytest.approx(body.sum(), rel=0.2), "as many voxels as the PET's body has"
