// The export buttons; a file is downloaded as soon as the server has made it.

/** Set up the buttons. */
export function mount(element, { props, watch, trigger }) {
  let downloaded = "";
  const show = () => {
    const { forms = [], file = "" } = props.value ?? {};
    for (const button of element.querySelectorAll("button[data-form]")) {
      button.disabled = !forms.includes(button.dataset.form);
    }
    if (!file || file === downloaded) return;
    downloaded = file;
    const link = document.createElement("a");
    link.href = file;
    link.download = "";
    link.click();
  };
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-form]");
    if (button) trigger("export", { form: button.dataset.form });
  });
  watch("value", show);
  show();
}
