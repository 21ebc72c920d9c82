// Keys that work everywhere: the help, and a way to each panel. All but "?" need Alt, so that they
// cannot be hit while typing, nor by a screen reader's own commands.

const PLACES = {
  "1": ".pane, #upload button, #upload input",
  "2": "#draft .line[tabindex='0'], #draft-it",
  "3": "#evidence .card, #evidence",
  "4": "#signer textarea, #signer input",
};

/** Wire the help dialog inside `element`, and the keys of the page. */
export function mount(element) {
  const help = element.querySelector("dialog.help");
  element.querySelector("button.help").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select, [contenteditable]");
    if (event.key === "?" && !typing) {
      help.open ? help.close() : help.showModal();
    } else if (event.altKey && PLACES[event.key]) {
      document.querySelector(PLACES[event.key])?.focus();
    } else if (event.altKey && event.key.toLowerCase() === "d") {
      document.querySelector("#draft-it").click();
    } else {
      return;
    }
    event.preventDefault();
  });
}
