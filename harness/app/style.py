"""CSS of the page, on top of its theme."""

CSS = """
.gradio-container {width: 100% !important; max-width: 1280px !important; margin: auto}
.gradio-container input {text-overflow: ellipsis}
.gradio-container .wrap-inner input {padding-right: 1.4rem}
#title h1 {font-size: 1.2rem; margin: 0}
.tight {gap: 8px !important}
.cells {overflow-x: auto}
.cells table {width: 100%; font-size: 0.85rem; border-collapse: collapse}
.cells tr {border: 0 !important}
.cells th, .cells td {
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  padding: 4px 8px; text-align: left; white-space: nowrap}
.cells td:nth-child(2) {white-space: normal}
.card h1 {font-size: 1.3rem}
.card h2 {font-size: 1.05rem}
.card table {font-size: 0.85rem; display: block; overflow-x: auto; border: 0 !important}
.card :is(th, td) {overflow-wrap: normal; word-break: normal}
.card img {max-width: 100%; border-radius: 6px}
.note {font-size: 0.9rem}
.message {font-size: 0.9rem; color: #b3261e; overflow-wrap: anywhere}
.dark .message {color: #ff8a8a}
.frame {
  display: grid; place-items: start center; padding-top: 2rem; margin-bottom: 0.4rem;
  border: 1px solid var(--border-color-primary); border-radius: 6px; position: relative}
.frame::before {content: "Loading the report …"}
.frame iframe {
  position: absolute; inset: 0; width: 100%; height: 100%; border: 0; border-radius: 6px}
.frame {height: max(60vh, 460px)}
#results .frame {height: max(80vh, 460px)}
.films {display: flex; flex-wrap: wrap; gap: 12px}
.films figure {flex: 1 1 220px; margin: 0; max-width: 420px}
.films video {width: 100%; border-radius: 6px}
.films figcaption {font-size: 0.9rem}
"""
