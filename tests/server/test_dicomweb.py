"""A server beside a real DICOM store: series are fetched, answered as OHIF wants it, and labels stored with them."""

import http.client
import json
import sys
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import DeepEditError
from deepedit.io.volumes import read_label, read_label_on, read_volume, write_label
from deepedit.server.dicomweb import DicomStore
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.studies import Studies
from deepedit.volume import DEFAULT_READING
from deepedit_cli import serve
from tests.io.dicom_files import PATIENT, PLACES, datasets, save
from tests.server.live import model_that_obeys, named, serving, shown
from tests.server.orthanc import DICOMwebClient, needs_orthanc, orthanc
from tests.server.page_client import Page
from tests.server.studies_folder import LABELS, label_map, segments

requests = pytest.importorskip("requests", reason="requests is not installed, which the client of DICOMweb needs")
SHAPE = (16, 14, 12)
TOLD = [text for text in PATIENT.values() if len(text) > 1]


@pytest.fixture(scope="module")
def series():
    """The files of three series: axial and oblique CT that show something, and a report."""
    shape = shown().shape
    files = {
        place: datasets(shown().astype(np.int16), PLACES[place], SeriesDescription=place)
        for place in ("axial", "oblique", "sagittal")
    }
    assert shape == SHAPE
    return files


@pytest.fixture(scope="module")
def store(tmp_path_factory, series):
    """The URL of an Orthanc that has the series."""
    files = [file for each in series.values() for file in each]
    with orthanc(tmp_path_factory.mktemp("orthanc") / "store", files) as url:
        yield url


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


def studies(folder, url, limit=2**30, said=None):
    said = [] if said is None else said
    store = DicomStore(url, folder / ".deepedit" / "dicomweb", limit, said.append)
    return Studies(folder, LABELS, said.append, store=store)


def uid(files):
    return str(files[0].SeriesInstanceUID)


@needs_orthanc
class TestStore:
    def test_a_series_is_fetched_once_and_says_nothing_of_its_patient(self, store, series, folder, tmp_path):
        found = studies(folder, store)
        for place, files in series.items():
            (image,) = found.images(uid(files))
            volume = read_volume(image)
            expected = read_volume(save(tmp_path / place, files))
            assert_array_equal(volume.data, expected.data)
            assert_allclose(volume.affine, expected.affine)
        kept = [path for path in folder.rglob("*") if path.is_file()]
        assert len(kept) == 3 * SHAPE[2]
        assert not [path for path in kept if any(text.encode() in path.read_bytes() for text in TOLD)]
        assert sorted(found.ids()) == sorted(map(uid, series.values()))
        found.store.url = "http://127.0.0.1:9/nothing"
        assert found.images(uid(series["axial"])) == (found.store.folder / uid(series["axial"]),)

    def test_what_is_not_there_is_not_found(self, store, folder):
        found = studies(folder, store)
        for name in ("1.2.3.4", "a", "..", "1..2", "1" * 70):
            with pytest.raises(NotFound):
                found.images(name)

    def test_the_cache_is_kept_within_its_limit_but_for_labelled_series(self, store, series, folder, tmp_path):
        said = []
        found = studies(folder, store, limit=0, said=said)
        first, second, third = map(uid, series.values())
        found.images(first)
        image = read_volume(found.images(first)[0])
        file = label_map(tmp_path / "sent.nii.gz", 1, affine=image.affine, shape=SHAPE)
        found.submit(first, file, ".nii.gz", segments("spleen"))
        for each in (second, third):
            found.images(each)
        assert {path.name for path in found.store.folder.iterdir()} == {first, third}
        assert any(line.startswith(f"the series {second} was removed from the cache") for line in said)
        assert found.label(first) is not None
        assert found.images(second)[0].is_dir()

    @pytest.mark.parametrize("place", ["axial", "oblique", "sagittal"])
    def test_a_submitted_label_is_stored_with_its_series(self, store, series, folder, tmp_path, place):
        found, files = studies(folder, store), series[place]
        image = read_volume(found.images(uid(files))[0])
        file = label_map(tmp_path / "sent.nii.gz", 0, 1, 2, 2, affine=image.affine, shape=SHAPE)
        client, study = DICOMwebClient(store), str(files[0].StudyInstanceUID)

        def segmentations():
            listed = client.search_for_series(study, search_filters={"Modality": "SEG"})
            return {each["0020000E"]["Value"][0] for each in listed}

        before = segmentations()
        found.submit(uid(files), file, ".nii.gz", segments("spleen", "liver"))
        (new,) = segmentations() - before
        (stored,) = client.retrieve_series(study, new)
        assert stored.PatientName == PATIENT["PatientName"]
        assert stored.SegmentationType == "BINARY"
        assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == uid(files)
        assert [each.SegmentLabel for each in stored.SegmentSequence] == ["spleen", "liver"]
        path = tmp_path / "stored.dcm"
        stored.save_as(path, enforce_file_format=True)
        label = read_label(path)
        start = np.rint(np.linalg.solve(image.affine, label.affine)[:3, 3]).astype(int)
        whole = np.zeros(SHAPE, int)
        whole[tuple(slice(a, a + n) for a, n in zip(start, label.shape, strict=True))] = label.data
        assert_array_equal(LABELS.to_values(whole), read_label(found.label(uid(files))).data)

    def test_a_store_that_is_gone_is_told_in_a_sentence(self, store, series, folder, tmp_path):
        found, name = studies(folder, store), uid(series["axial"])
        image = read_volume(found.images(name)[0])
        found.store.url = "http://127.0.0.1:9/nothing"
        for ask in (found.samples, lambda: found.images(uid(series["oblique"]))):
            with pytest.raises(Unavailable, match="the DICOM store does not answer; try again"):
                ask()
        file = label_map(tmp_path / "sent.nii.gz", 1, affine=image.affine, shape=SHAPE)
        with pytest.raises(Unavailable, match="the label is kept in the folder of studies, and not stored with its"):
            found.submit(name, file, ".nii.gz", segments("spleen"))
        assert read_label(found.label(name)).data.any()


def test_without_the_packages_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    with pytest.raises(DeepEditError, match=r"dicomweb_client is not installed; pip install 'deepedit\[dicom\]'"):
        DicomStore("http://localhost/dicom-web", folder, 1)


def voxels_of(content):
    """The voxels of a raw NRRD in the order in which they lie there, as OHIF reads them: it looks at nothing else."""
    header, _, data = content.partition(b"\n\n")
    assert b"encoding: raw" in header
    return np.frombuffer(data, np.uint8)


@needs_orthanc
class TestServer:
    @pytest.fixture
    def live(self, store, folder, tmp_path):
        source = DicomStore(store, folder / ".deepedit" / "dicomweb", 2**30)
        with serving(named(model_that_obeys(), tmp_path), folder, store=source) as live:
            yield live

    @pytest.mark.parametrize("place", ["axial", "oblique", "sagittal"])
    def test_a_click_of_ohif_marks_the_voxel_that_it_is_in(self, live, series, place):
        params = '{"left": [[3, 4, 5]], "right lung": [], "background": [], "result_extension": ".nrrd", '
        params += '"result_dtype": "uint8", "result_compress": false, "restore_label_idx": false}'
        url = f"{live.url}/infer/deepedit?image={uid(series[place])}&output=image"
        answer = requests.post(url, files={"params": (None, params)}, timeout=60)
        assert answer.status_code == 200, answer.text
        values = voxels_of(answer.content).reshape(SHAPE[::-1])
        assert values[5, 4, 3] == 1
        # In the order of DICOM: slices along their normal, rows, columns.
        normal = np.cross(*np.reshape(series[place][0].ImageOrientationPatient, (2, 3)).astype(float))
        ordered = sorted(series[place], key=lambda file: np.dot(np.array(file.ImagePositionPatient, float), normal))
        found = np.stack([file.pixel_array for file in ordered])
        agree = (values == found).mean()
        assert agree > 0.95

    @pytest.mark.parametrize("place", ["axial", "oblique", "sagittal"])
    def test_the_page_and_a_viewer_store_their_labels_with_the_series(self, live, series, store, tmp_path, place):
        name, study = uid(series[place]), str(series[place][0].StudyInstanceUID)
        client = DICOMwebClient(store)

        def segmentations():
            listed = client.search_for_series(study, search_filters={"Modality": "SEG"})
            return {each["0020000E"]["Value"][0] for each in listed}

        page = Page(live.url, {"image": name})
        classes = page.segment([{"clicks": [["left", [3, 4, 5]]]}])
        image = read_volume(live.service.studies.images(name)[0])
        for number in (1, 2):
            before = segmentations()
            if number == 1:
                answer = page.post("/api/submit", [{"clicks": [["left", [3, 4, 5]]]}])
            else:
                classes = np.where(classes == 1, 2, classes == 2)
                write_label(tmp_path / "sent.nii.gz", classes, image)
                params = json.dumps({"label_info": [{"name": "left"}, {"name": "right lung"}]})
                with (tmp_path / "sent.nii.gz").open("rb") as file:
                    fields = {"label": ("sent.nii.gz", file), "params": (None, params)}
                    answer = requests.put(f"{live.url}/datastore/label?image={name}", files=fields, timeout=60)
                assert answer.status_code == 200, answer.text
            assert number == 2 or (answer.status, answer.json) == (200, {"image": name})
            (new,) = segmentations() - before
            (stored,) = client.retrieve_series(study, new)
            assert stored.PatientName == PATIENT["PatientName"]
            assert [each.SegmentLabel for each in stored.SegmentSequence] == ["left", "right lung"]
            stored.save_as(tmp_path / "stored.dcm", enforce_file_format=True)
            on_image = read_label_on(image, tmp_path / "stored.dcm", DEFAULT_READING)
            assert_array_equal(on_image.data, classes)
            final = read_label(live.service.studies.label(name))
            assert_array_equal(final.data, live.service.labels.to_values(classes))
        assert not [line for line in live.said if any(text in line for text in TOLD)]

    def test_the_page_tells_that_the_store_is_gone_and_the_label_kept(self, live, series):
        name = uid(series["axial"])
        page = Page(live.url, {"image": name})
        assert page.segment([]).any()
        live.service.store.url = "http://127.0.0.1:9/nothing"
        answer = page.post("/api/submit", [])
        assert answer.status == 503
        assert answer.detail.startswith("the label is kept in the folder of studies, and not stored with its series: ")
        assert read_label(live.service.studies.label(name)).data.any()

    def test_the_next_sample_is_a_series_of_a_study(self, live, series):
        answers = [requests.post(f"{live.url}/activelearning/first", json={}, timeout=60).json() for _ in series]
        assert {each["id"] for each in answers} == set(map(uid, series.values()))
        by_uid = {uid(files): files[0] for files in series.values()}
        for each in answers:
            file = by_uid[each["SeriesInstanceUID"]]
            assert each["StudyInstanceUID"] == file.StudyInstanceUID
            assert (each["Modality"], each["PatientID"]) == ("CT", PATIENT["PatientID"])
            assert each["name"].endswith(".nii.gz")
        assert not [line for line in live.said if any(text in line for text in TOLD)]

    def test_ohif_is_served_and_asks_the_store_through_the_server(self, live, series, store):
        answer = requests.get(f"{live.url}/proxy/dicom/qido/studies", params={"limit": 5}, timeout=60)
        assert answer.json() == requests.get(f"{store}/studies", params={"limit": 5}, timeout=60).json()
        file = series["axial"][0]
        path = (
            f"studies/{file.StudyInstanceUID}/series/{file.SeriesInstanceUID}/instances/{file.SOPInstanceUID}/frames/1"
        )
        accept = {"Accept": "multipart/related; type=application/octet-stream"}
        answer = requests.get(f"{live.url}/proxy/dicom/wado/{path}", headers=accept, timeout=60)
        assert answer.headers["content-type"].startswith("multipart/related")
        assert file.PixelData in answer.content
        for method, where in (
            ("DELETE", "qido/studies"),
            ("POST", "qido/studies"),
            ("GET", "stow/studies"),
            ("GET", "other/studies"),
            ("GET", "wado/%2e%2e/instances"),
            ("GET", "wado/%252e%252e/instances"),
            ("GET", "wado/%252e/instances"),
            ("POST", "stow/%252e%252e/tools/generate-uid"),
        ):
            refused = requests.request(method, f"{live.url}/proxy/dicom/{where}", timeout=60)
            assert refused.status_code in (404, 405)

    def test_files_of_ohif_have_the_types_that_browsers_want(self, live):
        pytest.importorskip("monailabel", reason="the package monailabel, which brings OHIF, is not installed")
        front = requests.get(f"{live.url}/ohif", timeout=60)
        assert unquote(front.cookies["MONAILABEL_SERVER_URL"]) == f"{live.url}/"
        kept = {"MONAILABEL_SERVER_URL": "http://elsewhere/"}
        assert not requests.get(f"{live.url}/ohif/", cookies=kept, timeout=60).cookies
        assert front.headers["content-type"].startswith("text/html")
        for path in (
            "viewer?StudyInstanceUIDs=1.2",
            "../../../app.py",
            "%2e%2e/%2e%2e/%2e%2e/app.py",
            "..%2f..%2fapp.py",
        ):
            # By hand, as other clients leave such parts out before they ask.
            connection = http.client.HTTPConnection(live.url.removeprefix("http://"))
            connection.request("GET", f"/ohif/{path}")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, front.content)
            connection.close()
        script = requests.get(f"{live.url}/ohif/app-config.js", timeout=60)
        assert script.headers["content-type"].startswith("text/javascript")
        assert "/proxy/dicom/wado" in script.text


def test_an_address_that_is_none_is_refused(tmp_path, folder, capsys):
    for url in ("localhost:8042", "ftp://a/b", "http://me:secret@localhost/dicom-web"):
        capsys.readouterr()
        assert serve.main([f"--model={tmp_path}", f"--studies={folder}", f"--dicomweb={url}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("is no address as http://localhost:8042/dicom-web")
        assert "secret" not in line
