// One slider: a label, a range whose fill begins at 0, and its number.

export function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// `start` is where it stands at first, and is put back to; a signed one says + of what is above 0.
export function makeSlider(box, { id, label, hint, min, max, step, start, digits, signed }) {
  const value = make("output", { htmlFor: id });
  const range = make("input", { type: "range", id, min, max, step, value: start });
  if (hint) range.setAttribute("aria-description", hint);
  box.classList.add("slider");
  box.append(make("label", { htmlFor: id, textContent: label, title: hint }), range, value);
  const slider = { box, range, value, start, digits, signed };
  paint(slider);
  return slider;
}

export function set(slider, value) {
  slider.range.value = value;
  paint(slider);
}

function paint({ box, range, value, start, digits, signed }) {
  const [number, min, max] = [range.value, range.min, range.max].map(Number);
  const text = number.toFixed(digits).replace("-", "−");
  value.textContent = signed && number > 0 ? `+${text}` : text;
  range.setAttribute("aria-valuetext", value.textContent);
  const [place, origin] = [number, 0].map((at) => (100 * (at - min)) / (max - min));
  range.style.setProperty("--from", `${Math.min(place, origin)}%`);
  range.style.setProperty("--to", `${Math.max(place, origin)}%`);
  box.classList.toggle("moved", number !== start);
}

// A key makes a change each time it repeats: the last of them is chosen, after a pause, and one step of undo.
let pause = 0;

function chooseAfter(milliseconds, onChoose) {
  clearTimeout(pause);
  pause = setTimeout(() => {
    pause = 0;
    onChoose();
  }, milliseconds);
}

// Whether something was moved and not chosen yet; it is not going to be.
export function dropMove() {
  const dropped = pause !== 0;
  clearTimeout(pause);
  pause = 0;
  return dropped;
}

export function listen(slider, onMove, onChoose) {
  let byKey = false;
  slider.range.addEventListener("keydown", (event) => {
    byKey = true;
    if (event.key === "0") putBack();
  });
  slider.range.addEventListener("pointerdown", () => (byKey = false));
  slider.range.addEventListener("input", () => {
    paint(slider);
    onMove();
  });
  slider.range.addEventListener("change", () => {
    if (byKey) chooseAfter(400, onChoose);
    else onChoose();
  });
  slider.range.addEventListener("dblclick", putBack);

  function putBack() {
    set(slider, slider.start);
    onMove();
    chooseAfter(100, onChoose);
  }
}
