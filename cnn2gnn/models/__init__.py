"""Networks: teachers, stems, layers, the graph student and its bank. No training in here."""
