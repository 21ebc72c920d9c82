// Mouse and keys in the evidence: rule out a report, draft again, use a sentence.

import { moveFocus } from "./move_focus.js";

const REGION_REMOVALS = { "undo-region": { all: false }, "clear-regions": { all: true } };

/** Set up the evidence. */
export function mount(element, { trigger }) {
  const use = (sentence) =>
    trigger("act", { op: "use", report: sentence.dataset.report, number: Number(sentence.dataset.use) });

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    const sentence = event.target.closest("[data-use]");
    if (button?.dataset.act === "redraft") trigger("redraft", {});
    else if (REGION_REMOVALS[button?.dataset.act]) {
      // the regions are in the viewer
      document.dispatchEvent(new CustomEvent("removeregion", { detail: REGION_REMOVALS[button.dataset.act] }));
    } else if (button) trigger("act", { op: "rule-out", report: button.dataset.report });
    else if (sentence && !String(getSelection())) use(sentence);
  });

  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const items = [...element.querySelectorAll(".card, .sentence[data-use]")];
    if (moveFocus(event, items)) return;
    if ((event.key === "Enter" || event.key === " ") && event.target.matches("[data-use]")) {
      use(event.target);
      event.preventDefault();
    } else if (event.key === "x" && event.target.matches(".card, .sentence")) {
      event.target.closest(".card").querySelector("[data-act=rule-out]")?.click();
    }
  });
}
