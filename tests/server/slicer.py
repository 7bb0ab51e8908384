"""What stands in for 3D Slicer, so that the code of its extension MONAILabel runs without it.

The extension is that of the package ``monailabel``. Nodes hold images of SimpleITK; of Qt there is what the extension
asks for.
"""

import hashlib
import importlib.util
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import pytest

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def plugin_file() -> Path:
    """The extension of the installed package; skips the test without it."""
    try:
        found = [file for file in files("monailabel") if file.name == "MONAILabel.py"]
    except PackageNotFoundError:
        pytest.skip("monailabel is not installed: pip install --no-deps monailabel==0.8.5")
    pytest.importorskip("requests", reason="requests is not installed")
    pytest.importorskip("cgi", reason="the module cgi, which the client needs, is gone from Python 3.13 on")
    return Path(found[0].locate())


class Matrix:
    """``vtk.vtkMatrix4x4``"""

    def MultiplyDoublePoint(self, point):
        return (self.values @ point).tolist()


class Mutable:
    """``vtk.mutable`` of a text."""

    def __init__(self, value):
        self.value = value

    def __str__(self):
        return self.value


class Texts(list):
    """``vtk.vtkStringArray``"""

    InsertNextValue = list.append


class Node:
    """A node of the scene; asked for what it does not have, it does nothing."""

    def __init__(self, scene, kind):
        self.scene, self.kind, self.name, self.observers = scene, kind, "", []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()

    def GetName(self):
        return self.name

    def SetName(self, name):
        self.name = name

    def AddObserver(self, event, function):
        self.observers.append(function)

    def GetControlPointPlacementComplete(self):
        return bool(self.roi)

    # Volumes

    def affine(self):
        """Voxels to RAS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.image.GetDirection(), (3, 3)) * self.image.GetSpacing()
        matrix[:3, 3] = self.image.GetOrigin()
        return LPS @ matrix

    def GetRASToIJKMatrix(self, matrix):
        matrix.values = np.linalg.inv(self.affine())

    def GetIJKToRASMatrix(self, matrix):
        matrix.values = self.affine()

    # Points, and boxes

    points: Sequence = ()
    roi: Sequence = ()

    def GetNumberOfControlPoints(self):
        return len(self.points)

    def GetNthControlPointPosition(self, index):
        return self.points[index]

    def GetNthControlPointPositionWorld(self, index, world):
        world[:] = self.points[index]

    def AddControlPoint(self, point):
        self.points = [*self.points, list(point)]
        for observer in self.observers:
            observer(self, "PointPositionDefinedEvent")

    def RemoveAllControlPoints(self):
        self.points, self.roi = [], ()

    def GetDisplayNode(self):
        return MagicMock(GetActiveControlPoint=lambda: len(self.points) - 1)

    def GetCenter(self, center):
        center[:] = self.roi[0]

    def GetSize(self):
        return self.roi[1]

    # Segmentations

    def GetSegmentation(self):
        self.__dict__.setdefault("segmentation", Segmentation())
        return self.segmentation

    def RemoveSegment(self, key):
        del self.segmentation.segments[key]

    def SetReferenceImageGeometryParameterFromVolumeNode(self, volume):
        self.image = volume.image

    def GetBinaryLabelmapRepresentation(self, key, labelmap):
        labelmap.mask = self.segmentation.segments[key].mask


class Segment:
    def __init__(self, name):
        self.name, self.tags, self.mask = name, {}, None

    def GetName(self):
        return self.name

    def SetTag(self, key, value):
        self.tags[key] = value

    def GetTag(self, key, value):
        value.value = self.tags.get(key, "")


class Segmentation:
    """Segments by id; a segment's mask is an array ``[K, J, I]`` as of SimpleITK, None if it is empty."""

    def __init__(self):
        self.segments = {}

    def AddEmptySegment(self, key, name, colour=None):
        self.segments[key] = Segment(name)

    def GetSegment(self, key):
        return self.segments.get(key)

    def GetSegmentIdBySegmentName(self, name):
        return next((key for key, segment in self.segments.items() if segment.name == name), "")

    def GetNumberOfSegments(self):
        return len(self.segments)

    def GetNthSegmentID(self, index):
        return list(self.segments)[index]

    def GetSegmentIDs(self, keys):
        keys.extend(self.segments)


class SegmentationsLogic:
    """``slicer.modules.segmentations.logic()``"""

    @staticmethod
    def ImportLabelmapToSegmentationNode(labelmap, node, keys=None):
        """Value k becomes the k-th of the segments; without `keys`, each value that is there a new one."""
        assert_same_grid(labelmap.image, node.image)
        data, segments = sitk.GetArrayFromImage(labelmap.image), node.GetSegmentation().segments
        if keys is None:
            for value in np.unique(data[data > 0]).tolist():
                segments[f"Segment_{len(segments)}"] = new = Segment(f"Segment_{value}")
                new.mask = data == value
            return
        for value, key in enumerate(keys, 1):
            segments.setdefault(key, Segment(key)).mask = data == value

    @staticmethod
    def ExportSegmentsToLabelmapNode(node, keys, labelmap, volume):
        """The k-th of the segments gets value k."""
        data = np.zeros(volume.image.GetSize()[::-1], np.int16)
        for value, key in enumerate(keys, 1):
            mask = node.GetSegmentation().segments[key].mask
            if mask is not None:
                data[mask] = value
        labelmap.image = sitk.GetImageFromArray(data)
        labelmap.image.CopyInformation(volume.image)


class Editor(MagicMock):
    """The segment editor of the extension, as far as frozen labels need it."""

    def setSegmentationNode(self, node):
        self.node = node

    def setCurrentSegmentID(self, key):
        self.key = key

    def effectByName(self, name):
        def modify(labelmap, mode):
            self.node.GetSegmentation().segments[self.key].mask = labelmap.mask

        return MagicMock(modifySelectedSegmentByLabelmap=modify)


def assert_same_grid(one, other):
    """Two images of SimpleITK have their voxels in the same places."""
    assert one.GetSize() == other.GetSize()
    far = [side - 1 for side in one.GetSize()]
    for corner in np.ndindex(2, 2, 2):
        index = [int(on * last) for on, last in zip(corner, far, strict=True)]
        places = [np.array(image.TransformIndexToPhysicalPoint(index)) for image in (one, other)]
        np.testing.assert_allclose(*places, atol=1e-3)


class Scene(MagicMock):
    """``slicer.mrmlScene``"""

    StartCloseEvent, EndCloseEvent, NodeAddedEvent = "start", "end", "added"

    def __init__(self):
        super().__init__()
        self.nodes, self.singletons, self.observers = [], {}, []

    def AddNewNodeByClass(self, kind):
        node = Node(self, kind)
        self.nodes.append(node)
        return node

    def CreateNodeByClass(self, kind):
        return Node(self, kind)

    def AddNode(self, node):
        self.singletons[node.kind] = node
        return node

    def GetSingletonNode(self, tag, kind):
        return self.singletons.get(kind)

    def RemoveNode(self, node):
        self.nodes = [each for each in self.nodes if each is not node]

    def GetFirstNodeByClass(self, kind):
        return next((node for node in self.nodes if node.kind == kind), None)

    def Clear(self, singletons):
        self.tell(self.StartCloseEvent)
        self.nodes = []
        self.tell(self.EndCloseEvent)

    def tell(self, event):
        for observed, function in list(self.observers):
            if observed == event:
                function(self, event)


class Box(MagicMock):
    """``qt.QComboBox``"""

    items, currentIndex = (), -1

    def addItem(self, text, *_):
        self.items = [*self.items, text]
        self.currentIndex = max(self.currentIndex, 0)

    def addItems(self, texts):
        for text in texts:
            self.addItem(text)

    def clear(self):
        self.items, self.currentIndex = [], -1

    @property
    def count(self):
        return len(self.items)

    @property
    def currentText(self):
        return self.itemText(self.currentIndex)

    @currentText.setter
    def currentText(self, text):
        self.setCurrentText(text)

    def setCurrentText(self, text):
        if text not in self.items:
            self.addItem(text)
        self.currentIndex = self.items.index(text)

    def setCurrentIndex(self, index):
        self.currentIndex = index

    def findText(self, text):
        return self.items.index(text) if text in self.items else -1

    def itemText(self, index):
        return self.items[index] if 0 <= index < len(self.items) else ""


class CheckBox:
    """``qt.QCheckBox``"""

    def setChecked(self, checked):
        self.checked = checked


class Table(MagicMock):
    """``qt.QTableWidget`` of the options, with texts, lists and check boxes."""

    rowCount = 0

    def clear(self):
        self.cells, self.rowCount = {}, 0

    def setRowCount(self, count):
        self.rowCount = count

    def setItem(self, row, column, item):
        self.cells[row, column] = item

    setCellWidget = setItem

    def item(self, row, column):
        found = self.cells.get((row, column))
        return None if isinstance(found, Box | CheckBox) else found

    def cellWidget(self, row, column):
        return self.cells[row, column]


class Widgets:
    """The widgets of the extension by their names, made when they are asked for."""

    def __init__(self, password):
        self.username = SimpleNamespace(text="", setText=lambda text: None)
        self.password = SimpleNamespace(text=password, setText=lambda text: None)
        self.embeddedSegmentEditorWidget = Editor()
        self.dgUpdateCheckBox = MagicMock(checked=True)
        self.freezeUpdateCheckBox = MagicMock(checked=False)
        self.configTable = Table()
        for name in ("sam2PlaceWidget", "scribblesPlaceWidget"):
            setattr(self, name, PlaceWidget())

    def __getattr__(self, name):
        if name.endswith(("Selector", "Box", "optionsSection", "optionsName")) and "Check" not in name:
            widget = Box()
        else:
            widget = MagicMock()
        setattr(self, name, widget)
        return widget


class PlaceWidget(MagicMock):
    def setCurrentNode(self, node):
        self.node = node

    def currentNode(self):
        return self.__dict__.get("node")


class Slicer:
    """3D Slicer with the extension open.

    Args:
        url: of the server.
        folder: for temporary files.
        password: typed into the dialog, where one is asked for.

    Attributes:
        errors, warnings, infos: what dialogs said, the errors with their details.
        settings: of the extension.
        widget: the extension's own ``MONAILabelWidget``.
    """

    def __init__(self, url: str, folder: Path, password: str = "") -> None:
        self.errors, self.warnings, self.infos, self.timers = [], [], [], []
        self.settings = {"MONAILabel/autoRunSegmentationOnNextSample": False}
        self.values = {"MONAILabel/serverUrl": url}
        self.folder, self.scene, self.password = folder, Scene(), password
        extension = self._load()
        self.widget = extension.MONAILabelWidget(MagicMock(isEntered=True))
        self.widget.setup()
        self.ui = self.widget.ui

    # What a user does

    def open(self, path: Path, name: str) -> None:
        """Load a volume from the disk."""
        self._volume(path, name)

    def choose(self, label: str) -> None:
        """Choose a label to click for."""
        self.ui.labelComboBox.setCurrentIndex(self.ui.labelComboBox.findText(label))
        self.widget.onSelectLabel()

    def click(self, label: str, voxel: Sequence[int]) -> None:
        """Choose a label, if it is not chosen, and click on a voxel of the volume."""
        if self.ui.labelComboBox.currentText != label:
            self.choose(label)
        place = self.widget._volumeNode.affine() @ [*voxel, 1]
        self.widget.dgPositivePointListNode.AddControlPoint(place[:3])

    def option(self, model: str, name: str, value: object) -> None:
        """Set an option of a model in the table."""
        self.ui.optionsName.setCurrentText(model)
        self.widget.onSelectOptionsName(self.ui.optionsName.currentIndex)
        table = self.ui.configTable
        (row,) = [row for row in range(table.rowCount) if table.item(row, 0).text() == name]
        widget = table.cellWidget(row, 1)
        widget.setCurrentText(value) if isinstance(widget, Box) else widget.setChecked(value)

    def segmentation(self, labels: Sequence[str]) -> np.ndarray:
        """``[I, J, K]`` ranks of the segments with these names as they are now."""
        segments = self.widget._segmentNode.GetSegmentation()
        data = np.zeros(self.widget._volumeNode.image.GetSize(), np.uint8)
        for rank, label in enumerate(labels, 1):
            mask = segments.GetSegment(segments.GetSegmentIdBySegmentName(label)).mask
            if mask is not None:
                data[mask.T] = rank
        return data

    def paint(self, name: str, mask: np.ndarray) -> None:
        """Let a segment be this ``[I, J, K]``."""
        segments = self.widget._segmentNode.GetSegmentation()
        segments.GetSegment(segments.GetSegmentIdBySegmentName(name)).mask = mask.T.copy()

    # What the modules are

    def _volume(self, path: Path, name: str = "") -> Node:
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        node.image = sitk.ReadImage(str(path))
        node.SetName(name or Path(path).name.partition(".")[0])
        self.scene.tell(self.scene.NodeAddedEvent)
        return node

    def _save(self, node: Node, path: Path) -> None:
        image = node.image
        if node.kind == "vtkMRMLSegmentationNode":
            segments = node.GetSegmentation().segments
            labels = Node(self.scene, "vtkMRMLLabelMapVolumeNode")
            SegmentationsLogic.ExportSegmentsToLabelmapNode(node, segments, labels, node)
            image = labels.image
            for number, (key, segment) in enumerate(segments.items()):
                told = {"ID": key, "Name": segment.name, "LabelValue": str(number + 1), "Layer": "0"}
                for what, value in told.items():
                    image.SetMetaData(f"Segment{number}_{what}", value)
        sitk.WriteImage(image, str(path))

    def _download(self, nodeNames, fileNames, uris, checksums):
        path = self.folder / fileNames
        urllib.request.urlretrieve(uris, path)
        algorithm, _, digest = checksums.partition(":")
        assert hashlib.new(algorithm.lower(), path.read_bytes()).hexdigest() == digest
        node = self._volume(path)
        node.SetName(nodeNames)
        return [node]

    def _setting(self, key, default, converter=lambda value: value):
        return converter(self.settings.get(key, default))

    def _load(self) -> ModuleType:
        """The extension, with all that it imports stood in for."""
        util = module(
            "slicer.util",
            VTKObservationMixin=observations(self.scene),
            loadUI=MagicMock(),
            childWidgetVariables=lambda widget: Widgets(self.password),
            tempDirectory=lambda name: tempfile.mkdtemp(name, dir=self.folder),
            settingsValue=self._setting,
            toBool=bool,
            errorDisplay=lambda text, detailedText="": self.errors.append(f"{text}\n{detailedText}"),
            warningDisplay=self.warnings.append,
            infoDisplay=lambda text, detailedText="": self.infos.append(f"{text}\n{detailedText}"),
            confirmOkCancelDisplay=lambda *_, **__: True,
            createProgressDialog=MagicMock(),
            getNodesByClass=lambda kind: [node for node in self.scene.nodes if node.kind == kind],
            loadVolume=self._volume,
            saveNode=self._save,
        )
        settings = MagicMock(value=self.values.get, setValue=self.values.__setitem__)
        timer = SimpleNamespace(setInterval=id, connect=lambda _, tick: self.timers.append(tick), start=int, stop=int)
        qt = MagicMock(QDialog=type("QDialog", (), dict.fromkeys(("setWindowTitle", "setLayout", "exec"), ignore)))
        qt.QCheckBox, qt.QComboBox, qt.QSettings, qt.QTimer = CheckBox, Box, lambda: settings, lambda: timer
        qt.QTableWidgetItem = lambda text: MagicMock(text=lambda: text)
        widget = {"setup": ignore, "resourcePath": ignore, "layout": MagicMock()}
        widget["__init__"] = lambda self, parent: setattr(self, "parent", parent)
        parameters = Parameters()
        scripted = module(
            "slicer.ScriptedLoadableModule",
            ScriptedLoadableModule=type("ScriptedLoadableModule", (), {}),
            ScriptedLoadableModuleWidget=type("ScriptedLoadableModuleWidget", (), widget),
            ScriptedLoadableModuleLogic=type(
                "ScriptedLoadableModuleLogic", (), {"getParameterNode": lambda _: parameters}
            ),
            ScriptedLoadableModuleTest=type("ScriptedLoadableModuleTest", (), {}),
        )
        translation = module("slicer.i18n", tr=lambda text: text, translate=lambda _, text: text)
        slicer = module("slicer", util=util, mrmlScene=self.scene, app=MagicMock(), i18n=translation)
        slicer.ScriptedLoadableModule, slicer.vtkOrientedImageData = scripted, MagicMock
        slicer.modules = SimpleNamespace(segmentations=SimpleNamespace(logic=SegmentationsLogic))
        slicer.vtkSlicerSegmentationsModuleLogic = MagicMock(SetBinaryLabelmapToSegment=clear)
        slicer.vtkMRMLMarkupsNode = slicer.vtkMRMLSegmentEditorNode = MagicMock()
        slicer.qSlicerSegmentEditorAbstractEffect = MagicMock()
        pushed = lambda image, _, className: self._pushed(image, className)  # noqa: E731
        stood_in = [util, scripted, translation, slicer]
        stood_in += [
            module("vtk", vtkMatrix4x4=Matrix, vtkStringArray=Texts, mutable=Mutable, vtkCommand=MagicMock()),
            module("ctk", ctkSettingsPanel=type("ctkSettingsPanel", (), {})),
            module("SampleData", SampleDataLogic=lambda: SimpleNamespace(downloadFromURL=self._download)),
            module("sitkUtils", PushVolumeToSlicer=pushed),
        ]
        modules = {each.__name__: each for each in stood_in} | {"qt": qt, "vtkSegmentationCore": MagicMock()}
        path = plugin_file()
        spec = importlib.util.spec_from_file_location("MONAILabel", path)
        extension = importlib.util.module_from_spec(spec)
        with patch.dict(sys.modules, modules), patch.object(sys, "path", [str(path.parent), *sys.path]):
            spec.loader.exec_module(extension)
        return extension

    def _pushed(self, image, kind):
        node = self.scene.AddNewNodeByClass(kind)
        node.image = image
        return node


class Parameters(dict):
    """The parameter node of the extension."""

    def __bool__(self):
        return True

    def GetParameter(self, key):
        return self.get(key, "")

    SetParameter = dict.__setitem__

    def GetNodeReference(self, key):
        return None

    def SetNodeReferenceID(self, key, value):
        pass

    def StartModify(self):
        return 0

    def EndModify(self, before):
        pass


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


def observations(scene: Scene) -> type:
    """``VTKObservationMixin``, which only tells of the scene."""

    def add(self, node, event, function):
        if node is scene:
            scene.observers.append((event, function))

    return type("VTKObservationMixin", (), {"addObserver": add, "removeObserver": ignore, "__init__": ignore})


def ignore(*_: object, **__: object) -> None:
    pass


def clear(labelmap: object, node: Node, key: str, mode: object) -> None:
    """``SetBinaryLabelmapToSegment`` of an empty label map."""
    node.GetSegmentation().segments[key].mask = None
