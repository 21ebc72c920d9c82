// Keys that work everywhere: the help, and a way to each panel. All but "?" need Alt, so that they
// cannot be hit while typing, nor by a screen reader's own commands.

const PLACES = { // the first of each that is there
  "1": [".pane", "#upload button"],
  "2": ["#draft .line[tabindex='0']", "#draft-it"],
  "3": ["#evidence .card"],
  "4": ["#signer textarea, #signer input"],
  "5": ["#prior .prior", "#add-prior button"],
};

// With Alt a Mac types another sign ("™" for 2): then the place of the key on the board counts.
const pressed = ({ key, code }) =>
  (/^\w$/.test(key) ? key : /^(?:Digit|Key)(\w)$/.exec(code)?.[1] ?? "").toLowerCase();

/** Wire the help dialog inside `element`, and the keys of the page. */
export function mount(element) {
  const help = element.querySelector("dialog.help");
  element.querySelector("button.help").addEventListener("click", () => help.showModal());
  const list = element.querySelector("button.list");
  list?.addEventListener("click", () => document.dispatchEvent(new CustomEvent("showworklist")));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select, [contenteditable]");
    if (event.key === "?" && !typing) {
      help.open ? help.close() : help.showModal();
    } else if (event.altKey && PLACES[pressed(event)]) {
      PLACES[pressed(event)].map((place) => document.querySelector(place)).find(Boolean)?.focus();
    } else if (event.altKey && pressed(event) === "0" && list) {
      list.click();
    } else if (event.altKey && pressed(event) === "d") {
      document.querySelector("#draft-it").click();
    } else {
      return;
    }
    event.preventDefault();
  });
}
