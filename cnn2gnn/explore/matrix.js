// A matrix of coloured cells: click one to choose it.
// The beginning of a name, as far as it fits.
function fitted(pen, name, width) {
  if (pen.measureText(name).width <= width) return name;
  const letters = [...name];
  while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > width) letters.pop();
  return letters.join("") + "…";
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.className = "cnn2gnn-matrix";
  el.append(canvas);
  const margin = 72;
  const extent = () => {
    const names = model.get("names");
    const shown = names.length <= 30;
    return { names, left: shown ? margin : 4, cell: Math.max(3, Math.floor(360 / names.length)) };
  };
  const draw = () => {
    const { names, left, cell } = extent();
    const colours = model.get("colours");
    canvas.width = canvas.height = left + cell * names.length + 2;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    colours.forEach((row, i) =>
      row.forEach((colour, j) => {
        pen.fillStyle = colour;
        pen.fillRect(left + j * cell, left + i * cell, cell, cell);
      }),
    );
    const [a, b] = model.get("cell");
    if (a !== undefined) {
      pen.strokeStyle = "#d55e00";
      pen.lineWidth = 2;
      pen.strokeRect(left + b * cell, left + a * cell, cell, cell);
    }
    if (left < margin) return;
    pen.fillStyle = "#333333";
    pen.font = "11px sans-serif";
    pen.textBaseline = "middle";
    names.forEach((name, i) => {
      const short = fitted(pen, name, left - 6);
      pen.textAlign = "right";
      pen.fillText(short, left - 4, left + (i + 0.5) * cell);
      pen.save();
      pen.translate(left + (i + 0.5) * cell, left - 4);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(short, 0, 0);
      pen.restore();
    });
  };
  const at = (event) => {
    const { names, left, cell } = extent();
    const box = canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - left) / cell);
    const i = Math.floor((event.clientY - box.top - left) / cell);
    const inside = i >= 0 && j >= 0 && i < names.length && j < names.length;
    return inside ? [i, j] : null;
  };
  canvas.onmousemove = (event) => {
    const cell = at(event);
    const names = model.get("names");
    canvas.title = cell
      ? `${names[cell[0]]} looks at ${names[cell[1]]}: ${model.get("texts")[cell[0]][cell[1]]}`
      : "";
  };
  canvas.onclick = (event) => {
    const cell = at(event);
    if (!cell) return;
    model.set("cell", cell);
    model.save_changes();
  };
  model.on("change:colours", draw);
  model.on("change:cell", draw);
  draw();
}

export default { render };
