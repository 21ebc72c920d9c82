// The viewer: toolbar, panes, pointer and keys. Images are fetched once, with all stored bits.

import { readImage } from "./image.js";
import { Pane } from "./pane.js";
import { RegionTool } from "./regions.js";

const KEYS = { // besides those of the buttons
  "=": "in", Escape: "clear", ArrowUp: "brighter", ArrowDown: "darker", ArrowLeft: "moreContrast",
  ArrowRight: "lessContrast",
};
const NUDGE = 12; // screen pixels of a drag per arrow key

/** Set up the viewer; `props`, `watch` and `trigger` are those of Gradio's HTML component. */
export function mount(element, { props, watch, trigger, words }) {
  const viewer = new Viewer(element.querySelector(".viewer"), words, trigger);
  watch("value", () => viewer.show(props.value ?? []));
  viewer.show(props.value ?? []);
  return viewer;
}

class Viewer {
  constructor(root, words, trigger) {
    this.root = root;
    this.words = words;
    this.trigger = trigger;
    this.container = root.querySelector(".panes");
    this.template = root.querySelector("template");
    this.panes = [];
    this.active = null;
    this.tool = "window";
    this.solo = false;
    this.linked = true; // prior and current move together
    this.priorShown = true;
    this.generation = 0;
    this.regionTool = new RegionTool((value) => trigger("set_region", value), words);
    this.findings = []; // of the sentence pointed at last
    this.findingsShown = true;
    this.commands = { ...KEYS };
    for (const button of root.querySelectorAll("button[data-do]")) {
      this.commands[button.getAttribute("aria-keyshortcuts").toLowerCase()] = button.dataset.do;
    }
    this.gaze = root.querySelector("input[type=file]");
    this.gaze.addEventListener("change", () => {
      const [file] = this.gaze.files;
      if (file && this.drafted) this.regionTool.loadGaze(this.drafted, file);
      this.gaze.value = "";
    });
    document.addEventListener("removeregion", ({ detail }) => {
      if (this.drafted) this.regionTool.remove(this.drafted, detail);
    });
    document.addEventListener("showfindings", ({ detail }) => {
      this.findings = detail;
      this.#showFindings();
    });
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-do]");
      if (button) this.run(button.dataset.do);
    });
    root.addEventListener("keydown", (event) => this.#handleKey(event));
    root.addEventListener("rendered", () => this.#updateButtons());
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      root.addEventListener(kind, (event) => this.#handleDrop(event));
    }
    this.#updateButtons();
  }

  /** Show the images of `viewer_value`; an empty list clears the viewer. */
  async show(images) {
    const keys = images.map((image) => image.key).join();
    if (images.length && keys === this.keys) {
      if (this.panes.length) this.#loadFull(images, this.generation);
      else this.pendingFull = images; // the preview is still loading
      return;
    }
    const generation = ++this.generation;
    this.pendingFull = null;
    this.keys = keys;
    for (const pane of this.panes) pane.dispose();
    this.panes = [];
    this.active = null;
    this.container.replaceChildren();
    this.root.dataset.state = images.length ? "loading" : "empty";
    try {
      const loaded = await Promise.all(images.map((image) => fetchImage(image.url)));
      if (generation !== this.generation) return; // other images were opened meanwhile
      const several = images.filter((image) => !image.prior).length > 1;
      this.panes = loaded.map((image, i) => this.#createPane(image, images[i], several));
      this.root.toggleAttribute("data-prior", images.some((image) => image.prior));
      if (this.pendingFull) this.#loadFull(this.pendingFull, generation);
      this.pendingFull = null;
      this.#activate(this.panes[0] ?? null);
      this.root.dataset.state = images.length ? "shown" : "empty";
    } catch (error) {
      if (generation !== this.generation) return;
      this.root.dataset.state = "failed";
      console.error(error);
    }
  }

  /** Replace the previews by the full images. */
  async #loadFull(images, generation) {
    try {
      const loaded = await Promise.all(images.map((image) => fetchImage(image.url)));
      if (generation === this.generation) this.panes.forEach((pane, i) => pane.replaceImage(loaded[i]));
    } catch (error) {
      console.error(error); // the preview stays, and says so
    }
  }

  /** The pane whose image the draft is made from. */
  get drafted() {
    return this.panes.find((pane) => pane.drafted);
  }

  run(command) {
    if (command.startsWith("tool-")) {
      this.tool = command.slice(5);
      this.#updateButtons();
      return true;
    }
    const pane = this.active;
    if (!pane) return false;
    const switches = { findings: "findingsShown", solo: "solo", link: "linked", prior: "priorShown" };
    const paneCommands = {
      left: () => pane.turn(-1), right: () => pane.turn(1), mirror: () => pane.mirror(),
      clear: () => pane.clearLines(), heat: () => pane.toggleHeat(), gaze: () => this.gaze.click(),
    };
    const linkedCommands = {
      invert: (pane) => pane.invert(), reset: (pane) => pane.reset(), fit: (pane) => pane.fit(),
      one: (pane) => pane.oneToOne(), in: (pane) => pane.zoom(1.25), out: (pane) => pane.zoom(0.8),
      brighter: (pane) => pane.drag(0, -NUDGE), darker: (pane) => pane.drag(0, NUDGE),
      moreContrast: (pane) => pane.drag(-NUDGE, 0), lessContrast: (pane) => pane.drag(NUDGE, 0),
    };
    if (switches[command]) {
      this[switches[command]] = !this[switches[command]];
      this.#showFindings();
    } else if (paneCommands[command]) paneCommands[command]();
    else this.#linkedPanes(pane).forEach(linkedCommands[command] ?? ((pane) => pane.usePreset(command)));
    this.#updateButtons();
    return true;
  }

  /** The pane, and the same view of the other study if they are linked. */
  #linkedPanes(pane) {
    if (!this.linked || !this.priorShown || !this.root.hasAttribute("data-prior")) return [pane];
    return this.panes.filter((other) => other === pane || other.link === pane.link);
  }

  #showFindings() {
    this.drafted?.showFindings(this.findingsShown ? this.findings : []);
  }

  #createPane(image, info, several) {
    const root = this.template.content.firstElementChild.cloneNode(true);
    root.setAttribute("aria-label", info.label);
    root.querySelector(".corner-name").textContent = info.name;
    root.querySelector(".corner-spacing").textContent = info.spacing_note;
    root.querySelector(".corner-warnings").textContent = info.warnings.join("\n");
    root.querySelector(".drafted").hidden = !(info.drafted && several);
    root.classList.toggle("prior", info.prior);
    this.container.append(root);
    const pane = new Pane(root, image, this.words, info.drafted);
    Object.assign(pane, { link: info.link, prior: info.prior });
    Object.assign(pane.regions, info.region); // marked before, if the study is opened again
    root.addEventListener("pointerdown", (event) => this.#startDrag(event, pane));
    root.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#activate(pane);
      const [factor, at] = [Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), pane.screenPoint(event)];
      for (const linked of this.#linkedPanes(pane)) linked.zoom(factor, at);
    }, { passive: false });
    root.addEventListener("dblclick", (event) => {
      if (["measure", "region"].includes(this.tool)) return;
      const [isFitted, at] = [pane.isFitted, pane.screenPoint(event)];
      for (const linked of this.#linkedPanes(pane)) isFitted ? linked.oneToOne(at) : linked.fit();
    });
    root.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("focus", () => this.#activate(pane));
    return pane;
  }

  /** Drag with the tool; the middle button always pans, the right button always sets the window. */
  #startDrag(event, pane) {
    const tool = { 1: "pan", 2: "window" }[event.button] ?? (event.shiftKey ? "pan" : this.tool);
    const root = pane.root;
    root.focus({ preventScroll: true });
    root.setPointerCapture(event.pointerId);
    event.preventDefault();
    const start = pane.imagePoint(event);
    const anchor = pane.screenPoint(event);
    let last = anchor;
    const linked = this.#linkedPanes(pane);
    const move = (event) => {
      const point = pane.screenPoint(event);
      const [dx, dy] = [point.x - last.x, point.y - last.y];
      last = point;
      if (tool === "pan") linked.forEach((other) => other.pan(dx, dy));
      else if (tool === "zoom") linked.forEach((other) => other.zoom(Math.exp(-dy / 200), anchor));
      else if (tool === "measure") pane.measure(start, pane.imagePoint(event));
      else if (tool === "region") this.regionTool.drag(pane, start, pane.imagePoint(event));
      else linked.forEach((other) => other.drag(dx, dy));
    };
    const dragging = new AbortController();
    const end = (event) => {
      dragging.abort();
      if (tool === "measure") pane.measure(start, pane.imagePoint(event), true);
      if (tool === "region") this.regionTool.drag(pane, start, pane.imagePoint(event), true);
    };
    const { signal } = dragging;
    root.addEventListener("pointermove", move, { signal });
    root.addEventListener("pointerup", end, { signal });
    root.addEventListener("pointercancel", end, { signal });
  }

  #handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (event.target.matches("button") && event.key.startsWith("Arrow")) return;
    if (this.tool === "region" && this.active && this.regionTool.handleKey(event, this.active)) {
      event.preventDefault();
      return;
    }
    const command = this.commands[event.key] ?? this.commands[event.key.toLowerCase()];
    if (command && this.run(command)) event.preventDefault();
  }

  #activate(pane) {
    this.active = pane;
    this.#updateButtons();
  }

  /** Show which tools and switches are on. */
  #updateButtons() {
    for (const button of this.root.querySelectorAll("button[data-do]")) {
      const command = button.dataset.do;
      const on = command === `tool-${this.tool}` || (this.active && command === this.active.preset) ||
        (command === "invert" && this.active?.negative) ||
        (command === "mirror" && this.active?.viewport.mirror) || (command === "solo" && this.solo) ||
        (command === "heat" && this.active?.regions.shown) ||
        (command === "findings" && this.findingsShown) ||
        (command === "link" && this.linked) || (command === "prior" && this.priorShown);
      if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", String(!!on));
      button.disabled = !this.active && !command.startsWith("tool-");
    }
    for (const pane of this.panes) {
      pane.root.classList.toggle("active", pane === this.active);
      pane.root.hidden = (this.solo && pane !== this.active) || (pane.prior && !this.priorShown);
    }
    this.container.classList.toggle("many", this.panes.filter((pane) => !pane.root.hidden).length > 2);
    this.root.dataset.tool = this.tool;
  }

  /** Pass dropped images on to the page's file field. */
  #handleDrop(event) {
    event.preventDefault();
    this.root.classList.toggle("drop-target", event.type === "dragenter" || event.type === "dragover");
    if (event.type !== "drop" || !event.dataTransfer.files.length) return;
    const field = document.querySelector("#upload input[type=file]");
    field.files = event.dataTransfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

async function fetchImage(url) {
  const response = await fetch(url, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`image: ${response.status}`);
  return readImage(await response.arrayBuffer());
}
