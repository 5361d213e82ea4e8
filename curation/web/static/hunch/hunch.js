// Small comforts on top of pages that work without this file: nothing here holds state of its own.
(() => {
  "use strict";

  // Ask before a form that cannot be taken back.
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  // A chosen value that should take effect at once (filters, sort orders).
  document.addEventListener("change", (event) => {
    const control = event.target;
    if (control.matches("[data-submit-on-change]")) control.form.requestSubmit();
    if (control.matches("[data-tick-page]")) tickPage(control);
    if (control.matches("input[type=checkbox][name=example]")) showSelection(control.form);
    if (control.matches("[data-shows]")) showPart(control);
  });

  // Parts of a form that belong to one choice of a select or a radio group.
  const showPart = (control) => {
    const chosen = control.type === "radio" && !control.checked ? null : control.value;
    if (chosen === null) return;
    for (const part of document.querySelectorAll(`[data-part-of="${control.dataset.shows}"]`)) {
      part.hidden = !part.dataset.part.split(" ").includes(chosen);
    }
  };
  const showParts = (root) => {
    for (const control of root.querySelectorAll("[data-shows]")) showPart(control);
  };

  // A slider that moves a number field, and follows it. Without this file only the field is shown.
  const mirror = (slider) => {
    const field = document.getElementById(slider.dataset.mirrors);
    slider.hidden = false;
    slider.addEventListener("input", () => {
      field.value = slider.value;
    });
    field.addEventListener("input", () => {
      slider.value = field.value;
    });
  };

  const boxes = (form) => [...form.querySelectorAll("input[type=checkbox][name=example]")];
  const tickPage = (control) => {
    for (const box of boxes(control.form)) box.checked = control.checked;
    showSelection(control.form);
  };
  const showSelection = (form) => {
    const ticked = boxes(form).filter((box) => box.checked).length;
    for (const place of form.querySelectorAll("[data-ticked-count]")) place.textContent = String(ticked);
    const all = form.querySelector("[data-tick-page]");
    if (all) {
      all.checked = ticked > 0 && ticked === boxes(form).length;
      all.indeterminate = ticked > 0 && !all.checked;
    }
  };

  // Drag a file onto its field.
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      const area = event.target.closest?.("[data-drop]");
      if (!area) return;
      event.preventDefault();
      area.classList.toggle("is-over", name === "dragenter" || name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) {
        const input = area.querySelector("input[type=file]");
        input.files = event.dataTransfer.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
      }
    });
  }

  // Copy a value that is shown once.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
  });

  // Keys in the table of examples: j and k move, x ticks, Enter opens.
  document.addEventListener("keydown", (event) => {
    const table = document.querySelector("[data-keys=examples]");
    if (!table || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    const rows = [...table.querySelectorAll("tbody tr")];
    const here = rows.findIndex((row) => row.contains(document.activeElement));
    const target = { j: here + 1, k: here - 1 }[event.key];
    if (target !== undefined && rows[target]) {
      rows[target].querySelector("input[type=checkbox], a")?.focus();
      event.preventDefault();
    } else if (event.key === "x" && here >= 0) {
      rows[here].querySelector("input[type=checkbox]")?.click();
      event.preventDefault();
    } else if (event.key === "Enter" && here >= 0 && event.target.matches("input[type=checkbox]")) {
      rows[here].querySelector("a[data-open]")?.click();
      event.preventDefault();
    }
  });

  document.addEventListener("htmx:load", (event) => showParts(event.target));
  document.addEventListener("DOMContentLoaded", () => {
    showParts(document);
    document.querySelectorAll("[data-mirrors]").forEach(mirror);
    const tabs = document.querySelector(".tabs");
    const current = tabs?.querySelector("[aria-current]");
    if (current) tabs.scrollLeft = current.offsetLeft - (tabs.clientWidth - current.offsetWidth) / 2;
  });
})();
