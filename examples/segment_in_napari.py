"""Open the sample brain in napari with the Segment widget beside it."""

import napari

viewer = napari.Viewer()
viewer.open_sample("napari-tokensparse", "mni-brain")
dock, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
widget.keep_ratio.setValue(0.25)

if __name__ == "__main__":
    napari.run()
