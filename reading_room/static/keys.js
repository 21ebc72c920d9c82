// Keys that work everywhere: the help, and the focus for each panel. All but "?" need Alt, so that
// neither typing nor a screen reader's commands trigger them.

const FOCUS_TARGETS = { // the first that exists
  "1": [".pane", "#upload button"],
  "2": ["#draft .line[tabindex='0']", "#draft-it"],
  "3": ["#evidence .card"],
  "4": ["#signer textarea, #signer input"],
  "5": ["#prior .prior", "#add-prior button"],
};

// With Alt a Mac types another character ("™" for 2): then the physical key counts.
const keyOf = ({ key, code }) =>
  (/^\w$/.test(key) ? key : /^(?:Digit|Key)(\w)$/.exec(code)?.[1] ?? "").toLowerCase();

/** Set up the help dialog in `element`, and the keys of the page. */
export function mount(element) {
  const help = element.querySelector("dialog.help");
  element.querySelector("button.help").addEventListener("click", () => help.showModal());
  const list = element.querySelector("button.list");
  list?.addEventListener("click", () => document.dispatchEvent(new CustomEvent("showworklist")));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select, [contenteditable]");
    if (event.key === "?" && !typing) {
      help.open ? help.close() : help.showModal();
    } else if (event.altKey && FOCUS_TARGETS[keyOf(event)]) {
      FOCUS_TARGETS[keyOf(event)].map((selector) => document.querySelector(selector)).find(Boolean)?.focus();
    } else if (event.altKey && keyOf(event) === "0" && list) {
      list.click();
    } else if (event.altKey && keyOf(event) === "d") {
      document.querySelector("#draft-it").click();
    } else {
      return;
    }
    event.preventDefault();
  });
}
