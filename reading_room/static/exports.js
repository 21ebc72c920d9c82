// A button for each form of export; the file is fetched as soon as the server has made it.

/** Wire the buttons. */
export function mount(element, { props, watch, trigger }) {
  let fetched = "";
  const show = () => {
    const { forms = [], file = "" } = props.value ?? {};
    for (const button of element.querySelectorAll("button[data-form]")) {
      button.disabled = !forms.includes(button.dataset.form);
    }
    if (!file || file === fetched) return;
    fetched = file;
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
