"""CSS of the page, on top of its theme."""

CSS = """
.gradio-container {width: 100% !important; max-width: 1180px !important; margin: auto}
.gradio-container input {text-overflow: ellipsis}
.gradio-container .wrap-inner input {padding-right: 1.4rem}
.cells, .report {overflow-x: auto}
.cells table, .report table {
  width: 100%; font-size: 0.85rem; border-collapse: collapse; border: 0 !important}
.cells tr, .report tr {border: 0 !important}
.cells th, .cells td, .report th, .report td {
  border: 0 !important; border-bottom: 1px solid #ddd !important; padding: 4px 8px !important}
.report th, .report td {word-break: normal !important; overflow-wrap: normal !important}
.cells th, .cells td {text-align: left; white-space: nowrap}
.cells td:nth-child(2) {white-space: normal}
.caption {font-size: 0.9rem}
.message {font-size: 0.9rem; color: #b3261e; overflow-wrap: anywhere}
"""
