"""Pages to look at: one HTML file without outside resources, with tables, figures and a viewer of slices.

- :mod:`.content`: what a page holds, as plain data; :func:`.render.write_page` makes the file (Jinja2, autoescaped).
- :mod:`.case_view`: a case's images and segmentations as small WebP images, a part of whatever size the page may have.
- :mod:`.evaluation`, :mod:`.prediction`: the pages of ``mmkd evaluate`` and of ``mmkd predict --report``.

Names from disk are data everywhere: text that is escaped, or JSON. Needs no torch.
"""
