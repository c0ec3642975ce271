"""How the page looks: one calm theme, light and dark, with the fonts of the system. Nothing is loaded from anywhere."""

from pathlib import Path

import gradio as gr

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def make_theme() -> gr.themes.Base:
    """Paper and ink with one green."""
    theme = gr.themes.Base(
        font=_SANS,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )
    return theme.set(
        body_background_fill="#f7f5f1",
        body_background_fill_dark="#161513",
        body_text_color="#211f1b",
        body_text_color_dark="#ece8e0",
        body_text_color_subdued="#625c52",
        body_text_color_subdued_dark="#aca598",
        background_fill_primary="#fffefb",
        background_fill_primary_dark="#1f1d1a",
        background_fill_secondary="#f1eee8",
        background_fill_secondary_dark="#262420",
        border_color_primary="#e2ddd3",
        border_color_primary_dark="#39352f",
        border_color_accent="#2b6a5c",
        border_color_accent_dark="#86cbb9",
        color_accent="#2b6a5c",
        color_accent_soft="#e2efeb",
        color_accent_soft_dark="#24352f",
        link_text_color="#1f5a4d",
        link_text_color_dark="#93d4c3",
        block_background_fill="#fffefb",
        block_background_fill_dark="#1f1d1a",
        block_border_color="#e2ddd3",
        block_border_color_dark="#39352f",
        block_border_width="1px",
        block_shadow="none",
        button_border_width="1px",
        button_border_width_dark="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="#4b463e",
        block_label_text_color_dark="#c5beb1",
        block_title_text_color="#3a362f",
        block_title_text_color_dark="#d5cfc3",
        block_title_text_weight="500",
        block_info_text_color="#625c52",
        block_info_text_color_dark="#aca598",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_background_fill="#fffefb",
        input_background_fill_dark="#1b1917",
        input_border_color="#cfc8bb",
        input_border_color_dark="#4a453d",
        input_border_color_focus="#2b6a5c",
        input_border_color_focus_dark="#86cbb9",
        input_placeholder_color="#736c60",
        input_placeholder_color_dark="#968f82",
        input_shadow_focus="0 0 0 3px rgba(43,106,92,.22)",
        button_primary_background_fill="#2b6a5c",
        button_primary_background_fill_dark="#86cbb9",
        button_primary_background_fill_hover="#225548",
        button_primary_background_fill_hover_dark="#a0dccc",
        button_primary_border_color="#2b6a5c",
        button_primary_border_color_dark="#86cbb9",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#10201b",
        button_secondary_background_fill="#fffefb",
        button_secondary_background_fill_dark="#2a2723",
        button_secondary_background_fill_hover="#efebe3",
        button_secondary_background_fill_hover_dark="#36322c",
        button_secondary_border_color="#cfc8bb",
        button_secondary_border_color_dark="#4a453d",
        button_secondary_text_color="#211f1b",
        button_secondary_text_color_dark="#ece8e0",
        slider_color="#2b6a5c",
        slider_color_dark="#86cbb9",
        checkbox_background_color_selected="#2b6a5c",
        checkbox_background_color_selected_dark="#2b6a5c",
        checkbox_border_color="#8f877a",
        checkbox_border_color_dark="#847c6f",
        checkbox_label_background_fill="#fffefb",
        checkbox_label_background_fill_dark="#2a2723",
        checkbox_label_background_fill_selected="#e2efeb",
        checkbox_label_background_fill_selected_dark="#24352f",
        checkbox_label_text_color_selected="#173f36",
        checkbox_label_text_color_selected_dark="#c9ece2",
    )


CSS = """
body { background: var(--body-background-fill) !important; }
html:has(body.dark) { background: #161513; }
.dark { --color-accent: #86cbb9; }
.dark input[type=range] { --neutral-200: #45403a; --neutral-300: #45403a; --neutral-600: #45403a; }
.gradio-container { width: 100% !important; max-width: 1480px !important;
  margin: 0 auto !important; padding: 0 24px 8px !important; }
.gradio-container .fillable { max-width: none !important; width: 100%; }
.gradio-container .contain, .gradio-container .tabs { width: 100%; }
.gradio-container .main.fillable { padding: 4px 0; }
.block .html-container { padding: 0; }
#tabs { gap: 12px; }
.tabs .tabitem { padding: 0; }
.gradio-container *:focus-visible { outline: 3px solid var(--color-accent) !important; outline-offset: 2px; }
#top { align-items: center; padding: 8px 0 0; gap: 12px; flex-wrap: nowrap; }
#brand { flex: 1 1 auto; }
#brand .prose { display: flex; gap: 14px; align-items: baseline; }
#brand h1 { font-size: 19px; font-weight: 600; letter-spacing: -.01em; margin: 0; line-height: 1.3; }
#brand p { margin: 0; color: var(--body-text-color-subdued); font-size: 14px; }
#private { flex: 0 0 auto; width: auto; min-width: 0 !important; border: 0; background: none; padding: 0; }
#shade { flex: 0 0 auto; width: auto; min-width: 0; }
#shade button { font: inherit; font-size: 14px; color: inherit; background: none; cursor: pointer; padding: 8px 12px;
  border: 1px solid var(--border-color-primary); border-radius: 999px; }
.sr { position: absolute !important; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  padding: 0 !important;
  margin: 0 !important; border: 0 !important; white-space: nowrap; }
.tab-container button { font-size: 15px; }
.under { min-height: 44px; }
.note { margin: 0; font-size: 14px; line-height: 1.4; color: var(--body-text-color); padding: 8px 12px;
  border-radius: 10px; border-left: 4px solid #b07d2b; background: var(--background-fill-secondary); }
.note.calm { padding: 0; border: 0; background: none; font-size: 13px; color: var(--body-text-color-subdued); }
#prompt textarea, #edit-prompt textarea { font-size: 18px; line-height: 1.4; }
.go-row { gap: 8px; flex-wrap: nowrap; }
#go, #apply { font-size: 17px; min-height: 46px; }
.gradio-container button.secondary { border: 1px solid var(--button-secondary-border-color); }
#tools { gap: 8px; flex-wrap: nowrap; }
#tools .gallery { gap: 6px; padding: 0; border: 0; background: none; }
#tools .label svg { display: none; }
#tools .gallery-item { border-radius: 999px; padding: 3px 12px; font-size: 14px;
  background: var(--button-secondary-background-fill); border: 1px solid var(--border-color-primary); }
#tools .gallery-item:hover { background: var(--button-secondary-background-fill-hover); }
#tools .label { margin-bottom: 4px; font-size: 13px; color: var(--body-text-color-subdued); }
#surprise { align-self: flex-start; border-radius: 999px; width: auto; min-width: 0; }
.row-tight { gap: 8px; flex-wrap: wrap; align-items: center; }
.row-tight > button { flex: 0 1 auto; min-width: 0; }

.show { --canvas: max(280px, calc(100dvh - 304px)); position: relative; gap: 8px; }
.mode { gap: 24px; align-items: stretch; flex-wrap: nowrap; }
.mode:has(~ .mode) { display: none; }
.ask { flex: 0 0 392px; gap: 10px; }
#editor { height: var(--canvas) !important; min-height: 0 !important; border: 0; }
#edit-stage { position: absolute; inset: 0 0 auto; z-index: 5; background: var(--body-background-fill); }
#edit-stage .feet { display: none; }
#story { min-height: 24px; }
.edge { justify-content: center; }
.edge button { padding: 6px 14px; font-size: 14px; font-weight: 500; min-height: 36px; }
#save { flex: 0 0 auto; width: auto; min-width: 44px; font-size: 14px; text-align: center; }
#save .prose { display: flex; gap: 14px; align-items: center; }
.larger { position: relative; }
.larger summary { cursor: pointer; color: var(--link-text-color); text-decoration: underline; list-style: none; }
.larger div { position: absolute; right: 0; bottom: 28px; z-index: 6; display: grid; gap: 8px; width: 220px;
  padding: 12px; text-align: left; border-radius: 10px; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-primary); }
.larger p { margin: 0; font-size: 13px; color: var(--body-text-color-subdued); }
.stage { position: relative; width: 100%; height: var(--canvas); }
.stage .cells { display: grid; gap: 10px; justify-content: center; align-content: center; height: 100%; }
.stage.many .cells { --half: calc(var(--canvas) / 2 - 5px);
  grid-template: var(--half) var(--half) / var(--half) var(--half); }
.stage.one .cells { grid-template: var(--canvas) / minmax(0, 100%); }
.stage .cell { position: relative; border-radius: 12px; overflow: hidden; height: 100%; }
.stage .waiting, .stage .forming { background: var(--background-fill-secondary); }
.stage.one .waiting, .stage.one .forming { width: var(--canvas); max-width: 100%; justify-self: center; }
.stage .cell img { display: block; width: 100%; height: 100%; object-fit: contain; margin: 0; }
.stage .cell img.before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--before, 0%)) 0 0); }
.compare-bar input { width: 100%; accent-color: #2b6a5c; }
.stage .bar.compare-bar { grid-template-columns: auto 1fr; align-items: center; }
.stage .cell.waiting { border: 1px dashed var(--border-color-primary); }
.stage .pick { all: unset; display: block; width: 100%; height: 100%; cursor: zoom-in; border-radius: 12px; }
.stage .pick:focus-visible { outline-offset: -4px !important; }
.stage.many .pick[aria-pressed="true"] { box-shadow: inset 0 0 0 4px var(--color-accent); }
.stage.many .pick[aria-pressed="true"] img:not(.before) { clip-path: inset(6px round 8px); }
.stage .bar { position: absolute; left: 50%; bottom: 12px; transform: translateX(-50%); display: grid; gap: 4px 16px;
  grid-template-columns: 1fr auto; width: calc(min(var(--canvas), 100%) - 24px); padding: 8px 12px; border-radius: 10px;
  background: color-mix(in srgb, var(--background-fill-primary) 88%, transparent); color: var(--body-text-color);
  font-size: 14px; font-variant-numeric: tabular-nums; }
.stage progress { grid-column: 1 / -1; width: 100%; height: 6px; appearance: none; border: 0; border-radius: 3px;
  overflow: hidden; background: var(--background-fill-secondary); }
.stage progress::-webkit-progress-bar { background: var(--background-fill-secondary); }
.stage progress::-webkit-progress-value { background: var(--color-accent); transition: width .2s ease; }
.stage progress::-moz-progress-bar { background: var(--color-accent); }
.feet { height: 42px; overflow: auto; margin-top: 6px; }
.foot, .hint { font-size: 14px; color: var(--body-text-color-subdued); text-align: center; margin: 0 auto; }
.large { inset: 0; width: 100vw; height: 100dvh; max-width: none; max-height: none; border: 0; padding: 16px;
  background: rgba(12, 11, 10, .94); }
.large:popover-open { display: flex; flex-direction: column; gap: 12px; }
.large img { flex: 1; min-height: 0; width: 100%; height: 100%; object-fit: contain; margin: 0; }
.large nav { display: flex; gap: 10px; justify-content: center; }
.large nav button { font: inherit; color: #fff; background: #2b2926; border: 1px solid #6b645a; border-radius: 999px;
  padding: 8px 20px; cursor: pointer; }
#strip { min-height: 68px; }
.strip-tiles { display: flex; gap: 8px; overflow-x: auto; padding: 4px; }
.tile { position: relative; flex: 0 0 60px; height: 60px; }
.tile > button:first-child { all: unset; cursor: pointer; display: block; width: 60px; height: 60px;
  border-radius: 10px;
  overflow: hidden; background: var(--background-fill-secondary); position: relative; }
.tile > button:first-child:focus-visible { outline: 3px solid var(--color-accent); }
.tile > button[aria-pressed="true"] { box-shadow: 0 0 0 3px var(--color-accent); }
.tile.child { flex-basis: 48px; height: 48px; align-self: flex-end; margin-left: 4px; }
.tile.child > button:first-child { width: 48px; height: 48px; }
.tile.child::before { content: ""; position: absolute; left: -12px; bottom: 10px; width: 12px; height: 2px;
  background: var(--color-accent); }
.foot .back { all: unset; color: var(--link-text-color); text-decoration: underline; cursor: pointer; }
.tile img { display: block; width: 100%; height: 100%; object-fit: cover; margin: 0; }
.tile .many { position: absolute; right: 4px; bottom: 4px; font-size: 12px; line-height: 18px; min-width: 18px;
  text-align: center; border-radius: 9px; background: rgba(20, 19, 17, .8); color: #fff; }
.tile .words { display: block; padding: 5px 6px; font-size: 11px; line-height: 1.25; height: 50px; overflow: hidden;
  color: var(--body-text-color); }
.tile.drawn > button:first-child { border: 2px solid var(--color-accent); box-sizing: border-box; }
.tile.waits > button:first-child { border: 1px dashed var(--border-color-primary); box-sizing: border-box; }
.tile .end { position: absolute; top: -4px; right: -4px; width: 24px; height: 24px; border-radius: 50%; padding: 0;
  font-size: 15px; line-height: 1; cursor: pointer; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-primary); color: var(--body-text-color); }
.scaling { position: fixed; left: 0; top: 0; z-index: 99; width: 100vw; height: 6px; accent-color: #2b6a5c; }
.message { text-align: center; padding: 56px 16px; margin: 0; border-radius: 14px;
  background: var(--background-fill-secondary);
  color: var(--body-text-color-subdued); }
.message.error { color: var(--body-text-color); border: 1px solid #b4533c; }
.veil { position: relative; height: 100%; }
.veil .veiled { height: 100%; filter: blur(28px); transition: filter .15s; }
.veil:has(.lift input:checked) .veiled { filter: none; }
.veil .lift { position: absolute; z-index: 2; inset: auto 12px 12px; padding: 8px 12px; border-radius: 10px;
  font-size: 14px;
  background: var(--background-fill-primary); color: var(--body-text-color); cursor: pointer; }

.gallery-own { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
.gallery-own a, .gallery-own label { all: unset; display: block; cursor: pointer; border-radius: 12px;
  overflow: hidden;
  background: var(--background-fill-secondary); position: relative; }
#own-styles .gallery-own { grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 8px; }
.gallery-own img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; margin: 0; }
.gallery-own .name { display: block; padding: 8px 10px 10px; font-size: 13px; line-height: 1.35;
  color: var(--body-text-color);
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gallery-own label:has(input:checked) { box-shadow: 0 0 0 3px var(--color-accent); }
.gallery-own a:focus-visible, .gallery-own label:has(input:focus-visible) {
  outline: 3px solid var(--color-accent); }
.gallery-own label input { position: absolute; left: 10px; top: 10px; width: 20px; height: 20px;
  accent-color: #2b6a5c; }
#gallery > .prose > .foot { text-align: left; margin: 0 0 10px; }
.facts { display: grid; grid-template-columns: auto 1fr; gap: 4px 18px; font-size: 14px; margin: 12px 0; }
.facts dt { color: var(--body-text-color-subdued); margin: 0; } .facts dd { margin: 0; overflow-wrap: anywhere; }
.big img { width: 100%; max-width: 560px; border-radius: 14px; display: block; margin: 0 auto; }

.look .canvas { position: relative; border-radius: 12px; overflow: hidden; cursor: crosshair;
  width: min(var(--canvas), 100%); margin: 0 auto; background: var(--background-fill-secondary); }
.look .canvas img { display: block; width: 100%; margin: 0; }
.look .mark { position: absolute; border: 2px solid #fff; outline: 2px solid #111; pointer-events: none;
  box-sizing: border-box; }
.modes { display: flex; gap: 8px; flex-wrap: wrap; margin: 0 0 12px; border: 0; padding: 0; }
.modes legend { font-size: 13px; color: var(--body-text-color-subdued); margin-bottom: 4px; }
.modes label { display: inline-flex; gap: 6px; align-items: center; font-size: 14px; padding: 6px 12px;
  cursor: pointer;
  border: 1px solid var(--border-color-primary); border-radius: 999px; }
.look input[type=range] { width: 100%; accent-color: #2b6a5c; }
.look input { accent-color: #2b6a5c; }
.modes input { accent-color: #2b6a5c; }
.modes input[type=radio] { border: 1px solid var(--checkbox-border-color); }
.look label:has(.step) { display: block; width: min(var(--canvas), 100%); margin: 8px auto 0; font-size: 14px; }
.table table, .table tr, .table thead { border: 0 !important; }
.legend .scale { height: 10px; border-radius: 5px;
  background: linear-gradient(90deg,#440154,#414487,#2a788e,#22a884,#7ad151,#fde725); }
.legend .ends { display: flex; justify-content: space-between; font-size: 13px; color: var(--body-text-color-subdued); }
.table table { width: 100%; border-collapse: collapse; font-size: 14px; margin: 8px 0; display: table;
  border: 0 !important; }
.table th, .table td { text-align: left; padding: 6px 10px 6px 0; border: 0;
  border-bottom: 1px solid var(--border-color-primary);
  background: none; font-variant-numeric: tabular-nums; }
.table td .swatch { display: inline-block; width: 22px; height: 22px; border-radius: 6px; vertical-align: middle;
  border: 1px solid rgba(128,128,128,.5); }
.table td .share { display: inline-block; height: 8px; border-radius: 4px; background: var(--color-accent);
  vertical-align: middle; }
.tries { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 10px; margin-top: 10px; }
.tries { align-items: start; } #tries .hint { text-align: left; }
.tries button { all: unset; cursor: pointer; }
.tries img { width: 100%; border-radius: 10px; margin: 0; display: block; }
.tries span { display: block; font-size: 13px; color: var(--body-text-color-subdued); padding-top: 4px; }
.strip { display: grid; gap: 16px; } .strip img { width: 100%; border-radius: 12px; margin: 0; background: #fff; }
.reading { max-width: 720px; margin: 0 auto; line-height: 1.6; }

@media (min-width: 861px) {
  .ask { height: calc(100dvh - 128px); flex-wrap: nowrap; overflow-y: auto; }
  #tools { flex: 1 1 0; min-height: 0; overflow-y: auto; padding-right: 6px; }
  #tools > * { flex: 0 0 auto; }
  #options { flex: 0 0 auto; max-height: 55%; overflow-y: auto; }
}
@media (max-width: 860px) {
  .show { --canvas: min(calc(100vw - 28px), 62dvh); flex: 1 1 100%; order: -1; }
  .ask { flex: 1 1 100%; }
  .mode { flex-wrap: wrap; gap: 10px; }
  #draw-mode .ask, #draw-mode .show { display: contents; }
  #draw-mode > * > * { flex: 1 1 100%; --canvas: min(calc(100vw - 28px), 62dvh); }
  #stage, #next, #strip { order: 1; }
  #tools, #options { order: 2; }
  #brand p { display: none; }
}
@media (max-width: 640px) {
  .gradio-container { padding: 0 14px 48px !important; }
  #top { flex-wrap: wrap; } #brand { flex-basis: 100%; } #private { margin-left: -10px; flex: 1 1 0; }
  #shade { margin-left: auto; }
  #options .form { flex-wrap: wrap; } #options .form > * { flex: 1 1 100%; min-width: 0 !important; }
  .gallery-own { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; animation: none !important; } }
"""

HEAD = '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'

JS = (Path(__file__).parent / "static" / "page.js").read_text("utf-8")
