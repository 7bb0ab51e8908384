"""Files of clicks, in our format, MONAI Label's and 3D Slicer's."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepedit.errors import ClickError, DeepEditError, FileError
from deepedit.io.click_files import PointClick, read_clicks, write_clicks

LABELS = ["spleen", "liver"]


@pytest.fixture
def written(tmp_path):
    """Write an object, a text or bytes as a file; returns its path."""

    def written(content, name="clicks.json"):
        path = tmp_path / name
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def markups(*points, **node):
    return {"@schema": "markups-schema-v1.0.3.json#", "markups": [{"controlPoints": list(points), **node}]}


def test_our_format(written):
    content = {"space": "ras", "clicks": [{"label": "spleen", "position": [1, -2.5, 3]}]}
    assert read_clicks(written(content), LABELS) == [PointClick("spleen", (1.0, -2.5, 3.0), "ras")]
    assert read_clicks(written({"clicks": []})) == []


def test_monai_labels_format(written):
    content = {"spleen": [[1, 2, 3], [4, 5, 6]], "background": [[7, 8, 9]], "liver": []}
    assert read_clicks(written(content), LABELS) == [
        PointClick("spleen", (1.0, 2.0, 3.0), "voxel"),
        PointClick("spleen", (4.0, 5.0, 6.0), "voxel"),
        PointClick("background", (7.0, 8.0, 9.0), "voxel"),
    ]


def test_monai_labels_foreground_is_the_first_label(written):
    path = written({"foreground": [[1, 2, 3]], "background": []})
    assert read_clicks(path, ["background", *LABELS])[0].label == "spleen"
    assert read_clicks(path, ["liver", "foreground"])[0].label == "foreground"
    assert read_clicks(path)[0].label == "foreground"


@pytest.mark.parametrize(
    ("system", "space"), [("LPS", "lps"), ("RAS", "ras"), (0, "ras"), (1, "lps"), ("0", "ras"), (None, "lps")]
)
def test_slicers_coordinate_systems(written, system, space):
    node = {} if system is None else {"coordinateSystem": system}
    path = written(markups({"label": "liver-1", "position": [1, 2, 3]}, type="Fiducial", **node), "points.mrk.json")
    assert read_clicks(path, LABELS) == [PointClick("liver", (1.0, 2.0, 3.0), space)]


@pytest.mark.parametrize(
    ("point", "node", "file", "label"),
    [
        ("spleen", None, "F.mrk.json", "spleen"),
        ("spleen-12", None, "F.mrk.json", "spleen"),
        ("spleen_3", None, "F.mrk.json", "spleen"),
        ("background-1", None, "F.mrk.json", "background"),
        ("F-1", "liver", "F.mrk.json", "liver"),
        ("F-1", "liver_1", "F.mrk.json", "liver"),
        ("F-1", None, "liver.mrk.json", "liver"),
        ("", "spleen", "F.mrk.json", "spleen"),
        (None, None, "spleen.json", "spleen"),
        ("spleen-1", "liver", "F.mrk.json", "spleen"),
    ],
)
def test_slicers_labels(written, point, node, file, label):
    content = markups({"label": point, "position": [1, 2, 3]}, **({} if node is None else {"name": node}))
    assert read_clicks(written(content, file), LABELS)[0].label == label
    assert read_clicks(written(content, file))[0].label == label


def test_a_label_that_ends_in_a_number_is_found(written):
    for name in ("label_1", "label_1-1", "label_1_4"):
        content = markups({"label": name, "position": [1, 2, 3]})
        assert read_clicks(written(content), ["label_1", "label_2"])[0].label == "label_1"


@pytest.mark.parametrize("status", ["undefined", "missing", "preview"])
def test_slicers_points_without_a_place_are_left_out(written, status):
    points = [{"label": "liver", "position": [1, 2, 3], "positionStatus": s} for s in (status, "defined")]
    assert len(read_clicks(written(markups(*points)), LABELS)) == 1
    with pytest.raises(FileError, match="none of its 1 points has a place"):
        read_clicks(written(markups(*points[:1])), LABELS)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"{", "JSON"),
        (b"[" * 100_000, "nested"),
        ("[]", "object"),
        ({"spleen": 3}, "list of positions"),
        ({"spleen": [3]}, "three numbers"),
        ({"spleen": [[1, 2]]}, "three numbers"),
        ({"spleen": [[1, 2, "3"]]}, "three numbers"),
        ({"spleen": [[1, 2, True]]}, "three numbers"),
        ({"spleen": [[1, 2, 10**300]]}, "three numbers"),
        ('{"spleen": [[1, 2, 1e999]]}', "three numbers"),
        ('{"spleen": [[1, 2, NaN]]}', "NaN"),
        ('{"spleen": ' + "[" * 800 + "]" * 800 + "}", "three numbers"),
        ('{"spleen": [], "spleen": []}', "twice"),
        ({"splen": [[1, 2, 3]]}, "did you mean spleen"),
        ({"a\nb": [[1, 2, 3]]}, "not a name"),
        ({"space": "ras"}, "clicks should be a list"),
        ({"space": "mm", "clicks": []}, "voxel, ras or lps"),
        ({"space": 3, "clicks": []}, "voxel, ras or lps"),
        ({"space": "ras", "clicks": [3]}, "label and position"),
        ({"clicks": [{"position": [1, 2, 3]}]}, "not a name"),
        ({"clicks": [{"label": "spleen"}]}, "three numbers"),
        ({"clicks": [{"label": "kidney", "position": [1, 2, 3]}]}, "not one of"),
        ({"markups": 3}, "list of objects"),
        ({"markups": [3]}, "list of objects"),
        ({"markups": [{"controlPoints": 3}]}, "list of objects"),
        ({"markups": [{"type": "ROI"}]}, "point lists"),
        ({"markups": [{"coordinateSystem": "IJK"}]}, "LPS or RAS"),
        ({"markups": [{"coordinateSystem": [[]]}]}, "LPS or RAS"),
        ({"markups": [{"coordinateUnits": "m"}]}, "in mm"),
        (markups({"label": "spleen"}), "three numbers"),
        (markups({"label": "F-1", "position": [1, 2, 3]}), "not one of"),
    ],
)
def test_files_that_are_malformed_or_hostile(written, content, match):
    with pytest.raises((FileError, ClickError), match=match) as caught:
        read_clicks(written(content), LABELS)
    assert "clicks.json" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_name_of_a_million_digits_takes_no_time(written):
    content = markups({"label": "1" * 1_000_000 + "x", "position": [1, 2, 3]})
    with pytest.raises(ClickError, match="not a name"):
        read_clicks(written(content), LABELS)


clicks = st.builds(
    PointClick,
    label=st.sampled_from(["spleen", "liver", "background", "Milz ü"]),
    position=st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    space=st.sampled_from(["voxel", "ras", "lps"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clicks=st.lists(clicks, max_size=8))
def test_what_is_written_is_read_again(tmp_path, clicks):
    write_clicks(tmp_path / "clicks.json", clicks)
    assert read_clicks(tmp_path / "clicks.json") == clicks


def test_positions_may_be_integers_of_numpy(tmp_path):
    write_clicks(tmp_path / "clicks.json", [PointClick("a", tuple(np.arange(3)), "voxel")])
    assert read_clicks(tmp_path / "clicks.json")[0].position == (0.0, 1.0, 2.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["spleen", "RAS", "", "\n", "\ud800"]),
    lambda child: (
        st.lists(child, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["clicks", "space", "markups", "controlPoints", "label", "position", "spleen", "type", "name"]
            ),
            child,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=JSON)
def test_any_json_is_clicks_or_a_deepedit_error(written, content):
    message = ""
    try:
        assert all(len(click.position) == 3 for click in read_clicks(written(json.dumps(content)), LABELS))
    except DeepEditError as error:
        message = str(error)
    assert "\n" not in message


FCSV = """# Markups fiducial file version = {version}
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
"""


@pytest.mark.parametrize(
    ("system", "space"), [("LPS", "lps"), ("RAS", "ras"), ("0", "ras"), ("1", "lps"), ("lps", "lps")]
)
def test_slicers_older_table(written, system, space):
    text = FCSV.format(version="4.11", system=system) + (
        "vtkMRMLMarkupsFiducialNode_0,-31.5,20,1.05e+2,0,0,0,1,1,1,0,spleen-1,,vtkMRMLScalarVolumeNode1\n"
        'vtkMRMLMarkupsFiducialNode_1,1,2,3,0,0,0,1,1,1,0,"liver","here, or near",\n'
    )
    assert read_clicks(written(text, "F.fcsv"), LABELS) == [
        PointClick("spleen", (-31.5, 20.0, 105.0), space),
        PointClick("liver", (1.0, 2.0, 3.0), space),
    ]


def test_slicer_5_writes_two_more_columns_the_first_of_which_says_whether_there_is_a_place(written):
    text = FCSV.format(version="5.6", system="LPS")
    text += "".join(f"{n},{n},2,3,0,0,0,1,1,1,0,liver-{n},,,{status},0\n" for n, status in enumerate((0, 1, 2, 3)))
    assert read_clicks(written(text, "F.FCSV"), LABELS) == [PointClick("liver", (2.0, 2.0, 3.0), "lps")]


def test_a_table_is_called_as_its_points_or_as_its_file(written):
    text = FCSV.format(version="5.6", system="LPS") + "1,1,2,3,0,0,0,1,1,1,0,F-1,,,2,0\n"
    assert read_clicks(written(text, "liver.fcsv"), LABELS)[0].label == "liver"
    assert read_clicks(written("r,a,s\n1,2,3\n", "spleen.csv"), LABELS)[0].label == "spleen"


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("label,r,a,s\nspleen-1,1.5,-2,3\n", "ras"),
        ("\ufefflabel,l,p,s,defined,selected,visible,locked,description\r\nspleen,1.5,-2,3,1,1,1,0,\r\n", "lps"),
        ("Label;I;J;K\nspleen;1,5;-2;3\n\n", "voxel"),
        ("name\tr\ta\ts\nspleen\t1.5\t-2\t3", "ras"),
        ("label,r,a,s,defined\nspleen,9,9,9,0\nspleen,1.5,-2,3,1\n", "ras"),
    ],
)
def test_a_table_with_named_columns(written, text, space):
    assert read_clicks(written(text, "points.csv"), LABELS) == [PointClick("spleen", (1.5, -2.0, 3.0), space)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("label,x,y,z\nspleen,1,2,3\n", "should name the columns, as label,r,a,s or label,l,p,s"),
        ("1,2,3\n", "should name the columns"),
        ("label,r,a,s\nspleen,1,2\n", "line 2: its position .* is not three numbers"),
        ("label,r,a,s\nspleen,1,2,nan\n", "three numbers"),
        ("label,r,a,s\nspleen,1_0,2,3\n", "three numbers"),
        ("label,r,a,s\nspleen,1,2,1e300\n", "three numbers"),
        ("label,r,a,s\nkidney,1,2,3\n", "line 2: label 'kidney' is not one of"),
        (b"label,r,a,s\nspl\xe9en,1,2,3\n", "UTF-8"),
        ("# Fiducial List file\n# columns = label,x,y,z,sel,vis\nspleen,1,2,3,1,1\n", "does not say its Coordinate"),
        (FCSV.format(version="5", system="IJK") + "1,2,3,4\n", "save it as LPS or RAS"),
        ("# CoordinateSystem = LPS\n# columns = id,r,a,s\n1,2,3,4\n", "has no column x"),
        ('# CoordinateSystem = LPS\n1,2,3,4,0,0,0,1,1,1,0,"' + "x" * 200_000 + '"\n', "not a table|not a name"),
        ("# CoordinateSystem = LPS" + " " * 100_000 + "x\n1,2,3,4\n", "save it as LPS or RAS"),
    ],
)
def test_tables_that_cannot_be_read(written, text, match):
    with pytest.raises((FileError, ClickError), match=match) as caught:
        read_clicks(written(text, "points.csv"), LABELS)
    assert "points.csv" in str(caught.value)
    assert str(caught.value).isprintable()


def test_small_letters_and_points_without_a_status(written):
    points = [{"label": "liver", "position": [1, 2, 3], "positionStatus": status} for status in (None, "", "defined")]
    found = read_clicks(written(markups(*points, coordinateSystem="lps")), LABELS)
    assert found == [PointClick("liver", (1.0, 2.0, 3.0), "lps")] * 3


def test_what_monai_label_keeps_beside_the_clicks_is_passed_over(written):
    request = {"model": "deepedit", "image": "spleen_10", "label": None, "params": {"a": 1}, "device": "cuda"}
    content = request | {"spleen": [[1, 2, 3]], "background": []}
    assert read_clicks(written(content), LABELS) == [PointClick("spleen", (1.0, 2.0, 3.0), "voxel")]
    with pytest.raises(FileError, match="image should be a list"):
        read_clicks(written({"image": "spleen_10"}), LABELS)
    with pytest.raises(FileError, match="spleen should be a list"):
        read_clicks(written({"spleen": "x", "background": []}), LABELS)


def test_points_of_a_space_that_is_not_told_are_refused_with_the_way_to_write_them(written):
    content = {"type": "Multiple points", "points": [{"name": "liver", "point": [1, 2, 3]}]}
    with pytest.raises(FileError, match="do not say in which space") as caught:
        read_clicks(written(content), LABELS)
    assert '"clicks": [{"label"' in str(caught.value)
