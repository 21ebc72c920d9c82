// Mouse and keys in the draft: move, accept, edit, remove, add. The server renders the result.

import { moveFocus } from "./move_focus.js";

const editors = new Map(); // by key of the sentence: its editor, and its text when it was opened

/** Set up the draft; `words` are strings of the page. */
export function mount(element, { watch, trigger, words }) {
  const act = (op, data = {}) => trigger("act", { op, ...data });
  const lines = () => [...element.querySelectorAll(".line[tabindex]")];
  const dock = document.querySelector("#dock .dock-body");

  watch("value", () => {
    keepEditors(lines());
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    setTabStop(lines(), focused?.closest(".line"));
    if (element.dataset.focus === "true" && !focused) lines().at(-1)?.focus();
    showSources(null);
  });

  // A new draft discards the decisions: ask first, whichever button starts it.
  document.addEventListener("click", (event) => {
    const decided = lines().filter((line) => !line.classList.contains("open")).length;
    if (!decided || !event.target.closest("#draft-it, button[data-act=redraft]")) return;
    if (!confirm(words.redraft.replace("{}", decided))) event.stopImmediatePropagation();
  }, true);

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-op]");
    if (!button) return;
    const line = button.closest(".line");
    if (button.dataset.op === "add") add(button.parentElement.querySelector("input"), act);
    else if (button.dataset.op === "edit") edit(line, act, words);
    else if (button.dataset.op === "hint") act("hint", { number: Number(button.dataset.number) });
    else act(button.dataset.op, line ? { line: Number(line.dataset.line) } : {});
  });

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input[data-add]")) {
      if (event.key === "Enter") add(event.target, act);
      return;
    }
    if (!event.target.matches(".line, .cite, .line button")) return;
    if (handleKey(event, event.target.closest(".line"), lines(), act, words)) event.preventDefault();
  });

  for (const kind of ["mouseover", "focusin"]) {
    element.addEventListener(kind, (event) => showSources(event.target.closest(".line")));
  }
  element.addEventListener("focusin", (event) => {
    element.dataset.focus = "true";
    const line = event.target.closest(".line[tabindex]");
    if (line) setTabStop(lines(), line);
  });
  element.addEventListener("focusout", (event) => {
    if (event.relatedTarget) delete element.dataset.focus;
  });

  /** Show the sources of a sentence, highlight their reports, and show its findings on the image. */
  function showSources(line) {
    for (const card of document.querySelectorAll(".card.highlighted")) card.classList.remove("highlighted");
    const detail = JSON.parse(line?.dataset.regions ?? "[]");
    document.dispatchEvent(new CustomEvent("showfindings", { detail }));
    if (!line) return;
    const sources = line.querySelector(".sources");
    if (dock && sources) {
      dock.innerHTML = sources.innerHTML;
      dock.dataset.place = line.querySelector(".place")?.textContent ?? "";
    }
    for (const cite of line.querySelectorAll(".cite")) {
      document.getElementById(cite.getAttribute("href").slice(1))?.classList.add("highlighted");
    }
  }
}

/** Handle a key on a sentence; true if it was handled. */
export function handleKey(event, line, lines, act, words) {
  const key = { line: Number(line.dataset.line) };
  if (moveFocus(event, lines, line)) return true;
  if (event.target.matches("button, a") && event.key === "Enter") return false;
  switch (event.key) {
    case "a": act("accept", key); focus(lines[lines.indexOf(line) + 1]); return true;
    case "A": act("accept-supported"); return true;
    case "e": case "Enter": edit(line, act, words); return true;
    case "x": case "Delete": act("remove", key); return true;
    case "u": act("undo"); return true;
    case "n": return focus(line.closest("section").querySelector("input[data-add]"));
    default: return false;
  }
}

function focus(element) {
  element?.focus();
  return true;
}

/** Tab reaches one sentence; the arrow keys reach the others. */
function setTabStop(lines, current) {
  const chosen = lines.includes(current) ? current : lines[0];
  for (const line of lines) line.tabIndex = line === chosen ? 0 : -1;
}

function add(input, act) {
  if (!input.value.trim()) return;
  act("add", { section: input.dataset.add, text: input.value });
  input.value = "";
}

/** Editors stay open unless their sentence has changed, whatever else has changed in the draft. */
function keepEditors(lines) {
  for (const [key, { editor, field, text }] of editors) {
    const line = lines.find((candidate) => candidate.dataset.line === key);
    if (textOf(line) !== text) {
      editor.remove();
      editors.delete(key);
    } else if (editor.closest(".line") !== line) {
      line.querySelector(".body").append(editor);
      field.focus();
    }
  }
}

function textOf(line) {
  return line?.querySelector(".text").textContent;
}

/** Edit a sentence in a text field; Enter saves, Escape cancels. */
function edit(line, act, words) {
  if (line.querySelector(".editor")) return;
  const text = textOf(line);
  const editor = document.createElement("div");
  editor.className = "editor";
  const field = document.createElement("textarea");
  field.value = text;
  field.rows = 2;
  field.setAttribute("aria-label", words.edit);
  const close = () => { editors.delete(line.dataset.line); editor.remove(); line.focus(); };
  const save = () => {
    if (field.value.trim().replace(/\s+/g, " ") === text) return close();
    field.readOnly = true; // until the server has answered; if it refuses, the text can be corrected
    setTimeout(() => { field.readOnly = false; }, 2000);
    act("edit", { line: Number(line.dataset.line), text: field.value });
    return undefined;
  };
  editor.append(field, button(words.save, save), button(words.cancel, close));
  editor.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); save(); }
    if (event.key === "Escape") close();
  });
  line.querySelector(".body").append(editor);
  editors.set(line.dataset.line, { editor, field, text });
  field.focus();
  field.setSelectionRange(text.length, text.length);
}

function button(text, onClick) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", (event) => { event.stopPropagation(); onClick(); });
  return element;
}
