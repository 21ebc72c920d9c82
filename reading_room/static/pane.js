// One image of the viewer: canvas, overlay, window and viewport. Makes no request.

import { pyramid } from "./image.js";
import { dragWindow, histogram, presetWindow, storedTable, windowTable } from "./voi_lut.js";
import { colourTable, render } from "./canvas_renderer.js";
import { fitViewport, flipViewport, panViewport, rotateViewport, toImage, zoomViewport } from "./viewport.js";
import { Regions, boxBetween } from "./regions.js";
import { findingElements, lengthText, lineElements, ratioText, regionElements, scaleBar } from "./overlay.js";

const MAX_SIDE = 8192; // of the canvas, whatever the page's layout
const HISTOGRAM_PIXELS = 1_000_000; // a sample is enough for the presets

let paneCount = 0;

export class Pane {
  /**
   * @param root element of `viewer.html` with a canvas, an svg and the corner labels
   * @param image from `readImage`
   * @param words strings of the page
   * @param drafted whether the draft is made from this image: only then can regions be marked
   */
  constructor(root, image, words, drafted = true) {
    this.root = root;
    this.words = words;
    this.drafted = drafted;
    this.regions = new Regions();
    this.name = `heat-${++paneCount}`;
    this.#setImage(image);
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.overlay = root.querySelector("svg");
    this.lines = [];
    this.pendingLine = null; // the line that is being drawn
    this.findings = []; // contours
    this.scheduled = false;
    this.resized = new ResizeObserver(() => this.#resize());
    this.resized.observe(root);
    this.reset();
    this.#resize();
  }

  /** Replace the preview by the full image; viewport, window and marks stay. */
  replaceImage(image) {
    this.#setImage(image);
    if (["file", ""].includes(this.preset)) this.#updateColours();
    else this.usePreset(this.preset);
  }

  #setImage(image) {
    this.image = image;
    this.levels = pyramid(image);
    this.counts = histogram(image, Math.max(1, Math.floor(image.codes.length / HISTOGRAM_PIXELS)));
    this.root.dataset.fullResolution = String(image.stored[1] === image.width);
  }

  dispose() {
    this.resized.disconnect();
  }

  /** As opened: the file's own grey scale, upright, the whole image. */
  reset() {
    this.window = null; // the file's own table
    this.negative = false;
    this.lines = [];
    this.preset = "file";
    this.#updateColours();
    this.fit({ turn: 0, mirror: false });
  }

  fit(changes = {}) {
    this.viewport = fitViewport(this.image, this.#screen(), { ...this.viewport, ...changes });
    this.isFitted = true;
    this.draw();
  }

  /** One image pixel per screen pixel, around a point of the screen. */
  oneToOne(at = this.#centre()) {
    this.zoom(1 / this.viewport.scale, at);
  }

  zoom(factor, at = this.#centre()) {
    this.viewport = zoomViewport(this.viewport, this.#screen(), at, factor);
    this.isFitted = false;
    this.draw();
  }

  pan(dx, dy) {
    this.viewport = panViewport(this.viewport, this.#screen(), dx, dy, this.image);
    this.isFitted = false;
    this.draw();
  }

  turn(quarters) {
    this.viewport = rotateViewport(this.viewport, quarters);
    if (this.isFitted) this.fit();
    this.draw();
  }

  mirror() {
    this.viewport = flipViewport(this.viewport);
    this.draw();
  }

  invert() {
    this.negative = !this.negative;
    this.#updateColours();
  }

  usePreset(preset) {
    this.preset = preset;
    this.window = preset === "file" ? null : presetWindow(preset, this.counts, this.image);
    this.#updateColours();
  }

  /** Change window and level by a drag, in screen pixels. */
  drag(dx, dy) {
    this.preset = "";
    this.window = dragWindow(this.window ?? this.image.window, dx, dy, {
      invert: this.image.invert,
      negative: this.negative,
      minWidth: Math.abs(this.image.slope),
      reach: 600 * devicePixelRatio,
    });
    this.#updateColours();
  }

  /** Image point of a pointer event. */
  imagePoint(event) {
    return toImage(this.viewport, this.#screen(), this.screenPoint(event));
  }

  /** Screen point of a pointer event, in device pixels of this canvas. */
  screenPoint(event) {
    const box = this.canvas.getBoundingClientRect();
    const k = this.canvas.width / box.width || 1;
    return { x: (event.clientX - box.left) * k, y: (event.clientY - box.top) * k };
  }

  /** A line that follows the pointer; it is kept when the drag is `done`, unless that was a click. */
  measure(from, to, done = false) {
    this.pendingLine = done ? null : { from, to };
    if (done && Math.hypot(to.x - from.x, to.y - from.y) > 2) {
      this.lines = [...this.lines, { from, to }].slice(-6);
    }
    this.draw();
  }

  /** A box at the centre of the visible part, for keyboard users; in fractions of the image. */
  centreBox() {
    const { width, height } = this.#screen();
    const [a, b] = [3 / 8, 5 / 8].map((share) =>
      toImage(this.viewport, this.#screen(), { x: share * width, y: share * height }));
    return boxBetween(...[a, b].map(({ x, y }) => ({ x: x / this.image.width, y: y / this.image.height })));
  }

  /** A direction on the screen as a direction on the image. */
  toImageDirection(across, down) {
    const from = toImage(this.viewport, this.#screen(), { x: 0, y: 0 });
    const to = toImage(this.viewport, this.#screen(), { x: across, y: down });
    return [Math.sign(Math.round((to.x - from.x) * 1e6)), Math.sign(Math.round((to.y - from.y) * 1e6))];
  }

  /** A message to the reader about regions. */
  showMessage(text) {
    this.#setLabel("region", text);
  }

  /** Show contours of findings, and what is known about them. */
  showFindings(findings) {
    this.findings = findings;
    this.#setLabel("finding", findings.map((finding) => finding.words).join("\n"));
    this.draw();
  }

  toggleHeat() {
    this.regions.shown = !this.regions.shown;
    this.draw();
  }

  clearLines() {
    this.lines = [];
    this.draw();
  }

  draw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.#render();
    });
  }

  #updateColours() {
    const table = this.window
      ? windowTable(this.window, this.image, this.negative)
      : storedTable(this.image.table, this.negative);
    this.colours = colourTable(table);
    this.draw();
  }

  #resize() {
    const box = this.root.getBoundingClientRect();
    const side = (length) => Math.min(Math.max(1, Math.round(length * devicePixelRatio)), MAX_SIDE);
    const [width, height] = [side(box.width), side(box.height)];
    if (width === this.canvas.width && height === this.canvas.height && this.bitmap) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.bitmap = this.context.createImageData(width, height);
    if (this.isFitted) this.fit();
    this.draw();
  }

  #screen() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  #centre() {
    return { x: this.canvas.width / 2, y: this.canvas.height / 2 };
  }

  #render() {
    const pixels = new Uint32Array(this.bitmap.data.buffer);
    render(pixels, this.#screen(), this, this.viewport, this.colours);
    this.context.putImageData(this.bitmap, 0, 0);
    this.#drawOverlay();
    this.#updateLabels();
  }

  #drawOverlay() {
    this.overlay.setAttribute("viewBox", `0 0 ${this.canvas.width} ${this.canvas.height}`);
    const lines = this.pendingLine ? [...this.lines, this.pendingLine] : this.lines;
    const ratio = ratioText(this.lines, this.image.spacing);
    const texts = lines.map((line) => lengthText(line, this.image.spacing));
    if (ratio && !this.pendingLine) texts[1] += `  ·  ${this.words.ratio} ${ratio}`;
    const view = { image: this.image, viewport: this.viewport, screen: this.#screen(), name: this.name };
    this.overlay.replaceChildren(
      ...regionElements(this.regions, view),
      ...findingElements(this.findings, view),
      ...lines.flatMap((line, i) => lineElements(line, texts[i], view)),
    );
  }

  #updateLabels() {
    const { image, viewport, words } = this;
    const window = this.window ?? image.window;
    const k = devicePixelRatio;
    this.#setLabel("window", this.preset === "file" && image.lut
      ? words.lut
      : `${words.window} ${round(window.width)}  ${words.level} ${round(window.centre)}`);
    const preview = this.root.dataset.fullResolution === "true" ? "" : ` · ${words.preview}`;
    this.#setLabel("zoom", `${Math.round(100 * viewport.scale)} %${preview}`);
    const turns = [];
    if (viewport.mirror) turns.push(words.mirrored);
    if (viewport.turn) turns.push(words.turned.replace("{}", String(90 * viewport.turn)));
    if (this.negative) turns.push(words.negative);
    this.#setLabel("turned", turns.join(" · "));
    const bar = scaleBar(image.spacing, viewport, this.canvas.width / 3);
    const ruler = this.root.querySelector(".scale-bar");
    ruler.hidden = !bar;
    if (bar) {
      ruler.style.width = `${bar.pixels / k}px`;
      ruler.textContent = bar.length >= 10 ? `${bar.length / 10} cm` : `${bar.length} mm`;
    }
    const { dataset } = this.root;
    dataset.width = window.width;
    dataset.centre = window.centre;
    dataset.scale = viewport.scale;
    dataset.preset = this.preset;
    this.root.dispatchEvent(new CustomEvent("rendered", { bubbles: true }));
  }

  #setLabel(name, text) {
    const label = this.root.querySelector(`.corner-${name}`);
    if (label.textContent !== text) label.textContent = text;
  }
}

function round(value) {
  return Math.abs(value) < 100 ? Number(value.toFixed(1)) : Math.round(value);
}
