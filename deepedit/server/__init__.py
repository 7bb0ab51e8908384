"""MONAI Label's protocol, as 3D Slicer speaks it, in front of models and a folder of studies."""
