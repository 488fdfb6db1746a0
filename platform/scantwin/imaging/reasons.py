"""The one catalogue of reasons why a study or a series is refused or accepted with a warning.

A reason has a stable code (`<area>.<what>`), a sentence that says what is wrong and where, and a hint that
says what to do. To add one, append a line to `_CATALOGUE`; `docs/imaging.md` must list every code (a test
checks). The caller fills in the names in braces: `reject("study.no-ct", path=folder)`. A name that the caller
does not give reads as "(unknown)", so that a refusal never fails on its own sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from scantwin.errors import Rejection

Severity = Literal["rejected", "warned"]
"""`rejected`: the study or series is not used. `warned`: it is used, and the warning goes with it."""


@dataclass(frozen=True)
class Reason:
    """One reason of the catalogue."""

    code: str
    """Stable name for machines, `<area>.<what>`."""
    sentence: str
    """What is wrong and where, for a person; the caller fills in the `{names}`."""
    hint: str
    """What to do about it."""
    severity: Severity


_CATALOGUE: Final[tuple[tuple[str, Severity, str, str], ...]] = (
    # --- PET series: whether they can be an FDG PET at all
    ("pet.no-attenuation-correction", "rejected",
     "The PET series is not corrected for attenuation (CorrectedImage is {corrected}).",
     "Send the attenuation-corrected reconstruction (CorrectedImage with ATTN), not the NAC series."),
    ("pet.no-decay-correction", "rejected",
     "The PET series is not corrected for decay (CorrectedImage is {corrected}).",
     "Reconstruct with decay correction (CorrectedImage with DECY), or check why the field was emptied."),
    ("pet.not-fdg", "rejected",
     "The nuclide is not fluorine-18: {found}, F-18 is 6586 s.",
     "Only FDG serves these models; `scantwin suv --any-nuclide` converts other tracers."),
    ("pet.other-nuclide", "warned",
     "The nuclide is not fluorine-18 ({found}); it was converted because that was asked for.",
     "Do not use this series with FDG models."),
    ("pet.synthetic", "warned",
     "{found} PET series that a model made (SYNTHETIC) were left out: they are no measured truth.",
     "Add the measured PET of the examination if it is not there."),
    ("pet.not-pet", "rejected", "The modality is {modality}, not PT.", "Point to the PET series."),
    ("pet.unknown-maker", "warned",
     "The manufacturer is empty; FrameReferenceTime was taken to include the average within the frame.",
     "Check the factor against the console once."),
    # --- SUV: what the factor needs
    ("suv.no-dose", "rejected",
     "The injected dose (0018,1074) is missing or not a positive number: {found}.",
     "Restore RadionuclideTotalDose; it is often lost when the data are de-identified."),
    ("suv.no-weight", "rejected",
     "The patient's weight (0010,1030) is missing or not a positive number: {found}.",
     "Restore PatientWeight; it is often lost when the data are de-identified."),
    ("suv.no-height", "rejected",
     "The patient's height (0010,1020) is missing or not plausible: {found}; {suv_type} needs it.",
     "Restore PatientSize [m], or ask for --type bw."),
    ("suv.no-sex", "rejected",
     "The patient's sex (0010,0040) is {found}; {suv_type} needs M, F or O.",
     "Restore PatientSex, or ask for --type bw."),
    ("suv.no-time", "rejected",
     "The {which} time is missing or not a DICOM time: {found}.",
     "Compute SUV before de-identification, or shift all dates by one interval instead of removing them."),
    ("suv.no-half-life", "rejected",
     "The half-life (0018,1075) is missing or not a positive number: {found}.",
     "Restore RadionuclideHalfLife."),
    ("suv.implausible-dose", "rejected",
     "The injected dose (0018,1074) is not plausible: {found}.",
     "Check RadionuclideTotalDose: it is in Bq."),
    ("suv.implausible-weight", "rejected",
     "The patient's weight (0010,1030) is not plausible: {found}.",
     "Check PatientWeight: it is in kg."),
    ("suv.implausible-uptake-time", "rejected",
     "The time from injection to the reference of decay is not plausible: {found}.",
     "Check the dates and times: a partial shift of dates breaks SUV."),
    ("suv.no-frame-duration", "rejected",
     "ActualFrameDuration (0018,1242) is missing or not positive: {found}; the decay correction needs it.",
     "Restore ActualFrameDuration [ms]."),
    ("suv.no-decay-rule", "rejected",
     "DecayCorrection (0054,1102) is {found}, not START, ADMIN or NONE.",
     "Restore DecayCorrection: without it the dose cannot be related to the image."),
    ("suv.units-unknown", "rejected",
     "Units (0054,1001) is {found}; only BQML, GML, CM2ML and Philips CNTS can become SUV.",
     "Export the series in BQML or GML."),
    ("suv.counts-without-scale", "rejected",
     "Units are CNTS and neither Philips private scale factor (7053,xx00), (7053,xx09) is there: {found}.",
     "Keep the Philips PET Private Group when de-identifying, or export in BQML."),
    ("suv.suv-type-unknown", "rejected",
     "SUVType (0054,1006) is {found}, which is not a type of the DICOM standard.",
     "Restore SUVType or export in BQML."),
    ("suv.intercept", "rejected",
     "RescaleIntercept (0028,1052) is {found}; a PET image's must be 0.",
     "Check what wrote the series: with an intercept, zero counts are not zero activity."),
    ("suv.bad-slope", "rejected",
     "RescaleSlope (0028,1053) is {found}; it must be a positive number.",
     "Send the series again from the scanner; some Discovery ST exports are broken in this way."),
    ("suv.no-slope", "warned",
     "RescaleSlope (0028,1053) is missing; the factor holds for the values after the rescale slope.",
     "Without it the pixels cannot be read: send the series again."),
    ("suv.mixed-series", "rejected",
     "The slices disagree about {field}: {found}.",
     "Send one series at a time; two reconstructions may have been put into one folder."),
    ("suv.bad-result", "rejected",
     "The SUV factor came out as {found}.",
     "Check dose, weight, half-life and times: one of them is far off."),
    ("suv.dose-in-mbq", "warned", "The injected dose {found} was taken as MBq.", "Check the dose."),
    ("suv.weight-in-grams", "warned",
     "The patient's weight {found} was taken as grams.",
     "Check the weight."),
    ("suv.height-in-cm", "warned",
     "The patient's height {found} was taken as centimetres.",
     "Check the height."),
    ("suv.midnight", "warned",
     "The injection at {found} is later than the scan; it was taken as the day before.",
     "Check the date of the injection."),
    ("suv.date-shifted", "warned",
     "The reference time that the scanner wrote is {found} s off, as by a partial shift; it was put back.",
     "Shift private dates together with the others when de-identifying."),
    ("suv.private-time-unusable", "warned",
     "The reference time that the scanner wrote, {found}, does not fit the acquisition and was not used.",
     "Check the dates of the private tags."),
    ("suv.start-times-differ", "warned",
     "The injection's time (0018,1072) and date-time (0018,1078) differ by {found} s; the latter was used.",
     "Check which one the radiographer entered."),
    ("suv.start-datetime-off", "warned",
     "The injection's date-time (0018,1078) is {found} s off its time (0018,1072); the time was used.",
     "Check which one the radiographer entered: only the time gives a usual uptake."),
    ("suv.series-time-late", "warned",
     "The series time is {found} s later than the earliest acquisition, so it is not the decay reference.",
     "A reprocessed series: the reference was found another way; check the factor."),
    ("suv.decay-factor-differs", "warned",
     "DecayFactor (0054,1321) and the decay from the reference time differ by {found} %.",
     "Check the factor against the console: the reference time may be wrong."),
    ("suv.philips-factor-differs", "warned",
     "The private SUV factor and the one from dose and weight differ by {found} %; the private one was used.",
     "Check weight and dose on the console."),
    ("suv.acquisition-times", "warned",
     "The series has {found} acquisition times (several beds); all share one reference time.",
     ""),
    ("suv.uptake-unusual", "warned",
     "The uptake time is {found} min; FDG is scanned about 60 min after the injection.",
     "Check the injection time; early or late scans are not comparable."),
    ("suv.zone-unknown", "warned",
     "The injection {found} names a time zone, the scan's times do not; the clock reading was used.",
     "Check that both were on one clock: one hour is 46 % of SUV."),
    ("suv.start-date-off", "warned",
     "The injection {found} does not fit the day of the scan; only its clock reading was used.",
     "Shift all dates by one interval when de-identifying."),
    ("suv.frame-reference-unusable", "warned",
     "{found}; the earliest acquisition was taken for the decay reference.",
     "Check the factor against the console: bed by bed 0.6 % of SUV for each minute."),
    ("suv.series-time-early", "warned",
     "The series time is {found} s earlier than the first acquisition, so it is not the decay reference.",
     "Check the dates of series and acquisition."),
    ("suv.body-size", "rejected",
     "{suv_type} makes no sense for this weight and height: the body measure comes out as {found}.",
     "Check PatientWeight [kg] and PatientSize [m], or ask for --type bw."),
    ("suv.several-doses", "rejected",
     "The series names {found} administrations of a radiopharmaceutical; SUV is defined for one.",
     "Check the radiopharmaceutical sequence (0054,0016)."),
    ("suv.half-life-assumed", "warned",
     "The half-life is missing; that of fluorine-18 was used, since the nuclide code says {found}.", ""),
    ("suv.decay-contradiction", "warned",
     "CorrectedImage lists DECY, DecayCorrection is NONE; the image was taken as not corrected for decay.",
     "Check the factor against the console."),
    ("pet.nuclide-unknown", "warned",
     "Neither half-life nor nuclide code says which nuclide this is; it was taken as fluorine-18.",
     "Check that this is FDG."),
    ("pet.other-tracer", "warned",
     "The tracer is called {found}, which is not FDG.",
     "Do not use this series with FDG models unless the name is wrong."),
    ("suv.dose-unusual", "warned",
     "The injected dose is unusual for a patient: {found} MBq.",
     "Check the dose."),
    ("suv.weight-unusual", "warned",
     "The patient's weight is unusual for an adult: {found} kg.",
     "Check the weight."),
    # --- studies
    ("study.empty-folder", "rejected",
     "There is nothing to read in {path}.",
     "Point to a folder with DICOM series, a NIfTI study or a zip of them."),
    ("study.only-links", "rejected",
     "There is nothing to read in {path} but links to other folders, which are not followed.",
     "Point to the folders themselves, one after the other, or copy them together."),
    ("study.not-found", "rejected", "There is no such file or folder: {path}.", "Check the path."),
    ("study.no-ct", "rejected", "There is no CT in {path}.", "Add the CT series of the same examination."),
    ("study.no-pet", "rejected", "There is no PET in {path}.", "Add the PET series of the same examination."),
    ("study.several-ct", "warned",
     "There are {found} CT series in {path}; the one that covers most was taken.",
     "Keep one CT per study if that is the wrong one."),
    ("study.several-pet", "warned",
     "There are {found} PET series in {path}; the corrected one that covers most was taken.",
     "Keep one PET per study if that is the wrong one."),
    ("study.beds-joined", "warned",
     "{found} series are bed positions of one scan; they were put together.", ""),
    ("study.bad-json", "rejected",
     "{path} is not a study description: {found}.",
     "It holds an object with `condition` and `name`."),
    # --- DICOM
    ("dicom.unreadable", "rejected", "{path} cannot be read as DICOM: {found}.", "Send the file again."),
    ("dicom.truncated", "rejected",
     "{path} is cut short: {found}.",
     "Copy the file again; a transfer broke off."),
    ("dicom.too-large", "rejected",
     "{path} is larger than is read: {found}.",
     "Send one examination at a time."),
    ("dicom.compressed", "rejected",
     "The pixels of {path} are compressed in a way that is not read here: {found}.",
     "Export without compression (Explicit VR Little Endian)."),
    ("dicom.high-bit", "rejected",
     "Where in its bits the pixels of {path} lie cannot be told (HighBit (0028,0102)): {found}.",
     "Export the series again, uncompressed, with a HighBit of BitsStored - 1."),
    ("dicom.not-images", "rejected",
     "{path} holds DICOM objects but no CT or PET images.",
     "Point to the images."),
    ("dicom.missing-field", "rejected",
     "The series in {path} lacks {found}.",
     "Send the series again without removing geometry or pixel fields."),
    # --- geometry
    ("geometry.missing-slices", "warned",
     "{found} slices are missing; they were filled by interpolation.",
     "Send the series again if the gap matters."),
    ("geometry.large-gap", "rejected",
     "The series has a gap of {found} slices, too large to fill.",
     "Send the whole series."),
    ("geometry.duplicates", "warned", "{found} slices lie at the same place; one of each was kept.", ""),
    ("geometry.passes", "warned",
     "The series holds up to {found} passes over the same places (time frames, repeats); the first is used.",
     "Send the pass that is meant as a series of its own."),
    ("geometry.tilt", "warned",
     "The gantry was tilted by {found} degrees; the slices were moved to a right-angled grid.",
     ""),
    ("geometry.mixed", "rejected",
     "The slices disagree about {field}: {found}.",
     "Send one series at a time."),
    ("geometry.too-few-slices", "rejected",
     "The series has {found} slices, too few for a volume.",
     "Send all slices."),
    ("geometry.bad", "rejected",
     "The geometry cannot be used: {found}.",
     "Check spacing, origin and orientation."),
    # --- CT
    ("ct.not-hu", "rejected", "The CT is not in Hounsfield units: {found}.", "Export with rescale to HU."),
    ("ct.padding", "warned", "{found} of the voxels were padding and were set to air.", ""),
    ("ct.scout", "rejected", "The CT is a scout view (LOCALIZER).", "Send the axial series."),
    ("ct.empty", "rejected", "There is no patient in the CT: {found}.", "Check the series."),
    # --- PET values
    ("pet.negative", "warned", "{found} of the PET voxels were negative and were set to 0.", ""),
    ("pet.not-finite", "rejected",
     "The PET holds values that are not numbers: {found}.",
     "Send the series again."),
    ("pet.implausible", "rejected", "The PET's values are not SUV: {found}.", "Check the unit of the file."),
    ("pet.as-activity", "warned", "SUV cannot be computed ({found}); the values stay an activity in Bq/ml.",
     ""),
    # --- NIfTI
    ("nifti.unreadable", "rejected", "{path} cannot be read as NIfTI: {found}.", "Copy the file again."),
    ("nifti.dims", "rejected", "{path} is not a 3D image: {found}.", "Give one volume per file."),
    ("nifti.geometry", "rejected", "The affine of {path} cannot be used: {found}.", "Write sform or qform."),
    # --- CT and PET together
    ("pair.other-frame", "warned",
     "CT and PET have different frames of reference; their positions were taken as they are.",
     "Check that both are of one examination."),
    ("pair.far-apart", "rejected",
     "CT and PET do not overlap: {found}.",
     "Check that both are of one examination."),
    ("pair.part-overlap", "warned", "The PET covers {found} of the CT.", ""),
    ("pair.other-patient", "rejected", "CT and PET are not of one patient.", "Send one patient at a time."),
    ("pair.other-day", "warned",
     "CT and PET are {found} days apart.",
     "Check that both are of one examination."),
    ("pair.lesions-elsewhere", "rejected",
     "The lesion mask does not lie on the PET (or, without one, on the CT): {found}.",
     "Check the mask."),
    ("pair.districts-elsewhere", "rejected",
     "The district labels do not lie on the CT: {found}.",
     "Check the labels."),
    # --- archives
    ("zip.unreadable", "rejected", "{path} cannot be read as a zip: {found}.", "Copy the file again."),
    ("zip.bomb", "rejected", "{path} would unpack to {found}, more than is allowed.", "Unpack it by hand."),
    ("zip.unsafe-path", "rejected",
     "{path} holds a path that leads outside it: {found}.",
     "Make the zip again."),
    ("zip.nested", "rejected", "{path} holds a zip inside the zip.", "Unpack the outer one."),
    ("zip.encrypted", "rejected", "{path} is encrypted.", "Unpack it by hand."),
    # --- found while reading
    ("study.unreadable", "rejected", "{path} is damaged: {found}.", "Copy or export the study again."),
    ("study.reader-crashed", "rejected",
     "Reading the study brought the reader down.",
     "Look at its files: one of them is damaged or far too large."),
    ("study.ct-only", "warned",
     "The study has a CT but no PET; it cannot teach a CT to PET model that needs pairs.",
     "Add the PET series of the same examination."),
    ("study.pet-only", "warned",
     "The study has a PET but no CT; only recipes that need no pairs (cyclegan) learn from it.",
     "Add the CT series of the same examination, if there is one."),
    ("dicom.file-left-out", "warned",
     "{found} files that are damaged or cannot be opened were left out.",
     "Copy the study again if slices are missing, and check who may read it."),
    ("geometry.stray", "warned",
     "{found} images of another size or orientation were left out of the series.",
     ""),
    ("geometry.uneven-filled", "warned",
     "The slices are {found} apart; they were interpolated to even spacing.",
     ""),
    ("geometry.oblique", "warned",
     "The {found} lies at an angle to the patient's axes; it was resampled along them.",
     ""),
    ("image.unreadable", "rejected", "{path} cannot be read as an image: {found}.", "Copy the file again."),
    ("image.dims", "rejected", "{path} is not a 3D image of numbers: {found}.", "Give one volume per file."),
    ("lesions.left-out", "warned",
     "{found} drawn regions were left out: organs, margins, or not drawn along the slices.",
     "Give lesions a name with GTV, tumour or lesion in it."),
    ("lesions.unreadable", "warned",
     "{found} drawings (SEG, RTSTRUCT) that are damaged or too large were left out.",
     "Copy or export them again: what they draw counts as healthy until then."),
    ("lesions.synthetic", "warned",
     "{found} segmentations that ScanTwin made itself were left out: candidates are no lesions.",
     "Draw the lesions on the measured PET or on the CT."),
    ("lesions.labelmap", "warned",
     "{found} segmentations of the kind LABELMAP were left out: they are not read here.",
     "Export them as BINARY, with one segment a lesion."),
    ("lesions.other-frame", "warned",
     "{found} drawings (SEG, RTSTRUCT) name another frame of reference than CT and PET and were left out.",
     "Draw on this CT or PET, or move the drawing there with a registration."),
)  # fmt: skip

REASONS: Final[dict[str, Reason]] = {
    code: Reason(code, sentence, hint, severity) for code, severity, sentence, hint in _CATALOGUE
}
"""Code -> reason, in the order of the catalogue."""


class _Known(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "(unknown)"


def reject(code: str, **where: object) -> Rejection:
    """The refusal to raise for a reason of the catalogue; `where` fills in its sentence."""
    reason = REASONS[code]
    return Rejection(reason.sentence.format_map(_Known(where)), hint=reason.hint, code=code)


def warn(code: str, **where: object) -> str:
    """A warning of the catalogue as one line, `code: sentence`; `code_of` returns the code."""
    return f"{code}: {REASONS[code].sentence.format_map(_Known(where))}"


def code_of(warning: str) -> str:
    """The code that a line made by `warn` begins with, or "" if it is no such line."""
    code = warning.partition(":")[0]
    return code if code in REASONS else ""


def reasons_table() -> str:
    """The catalogue as a Markdown table, which the page `docs/imaging.md` contains."""
    lines = ["| code | what happens | what it says | what to do |", "| --- | --- | --- | --- |"]
    lines += [f"| `{r.code}` | {r.severity} | {r.sentence} | {r.hint or '-'} |" for r in REASONS.values()]
    return "\n".join(lines)
