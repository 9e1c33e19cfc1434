"""What stands below the options in the help of each command."""

RUN = """\
examples:
  cnn2gnn run
      the embedded digits, two minutes on two CPU cores
  cnn2gnn run --dataset fashion-mnist --download --run fashion --teacher resnet56
      what is not there is downloaded only when you say so
  cnn2gnn run --dataset folder:photos --image-size 64 --run photos --k 10 --seed 1
      your own images, one subfolder a class
  cnn2gnn run --dataset cifar100 --run paper --scope batch --notebooks 01,02
      neighbours from the batch, nearest to the paper, without explorer and report

The same parameters in a notebook: change its cell `parameters`, or
  papermill notebooks/02_distill.ipynb out.ipynb -p dataset cifar100 -p k 10
A run that was stopped continues when it is started again with the same parameters.
"""
DATA = """\
examples:
  cnn2gnn data digits
  cnn2gnn data folder:photos --image-size 64 --out photos.png
  cnn2gnn data 'parquet:photos/*.parquet' --label-column species
"""
REPORT = """\
examples:
  cnn2gnn report demo
  cnn2gnn report seed-0 seed-1 seed-2
      one comparison, mean and standard deviation over the seeds
"""
COMPARE = """\
Each combination of the values is a run of its own, in a process of its own. Started again, it goes
on where it was stopped, and runs what failed or is new.

examples:
  cnn2gnn compare losses --loss kd dkd dist --seed 0 1 2
  cnn2gnn compare neighbours --k 5 10 20 40 --epochs 5 --jobs 2 --dry-run
  cnn2gnn compare losses --loss kd dkd --cluster slurm --cluster-option timeout_min=600
  cnn2gnn compare grid.toml
      GRID.toml: name = value, or name = [value, value]; [[variant]] tables hold what goes together
"""
SWEEP = """\
Optuna looks for values that do well on the validation images. Processes and machines that are given
the same name and storage work on one study; `optuna-dashboard STORAGE` opens it.

examples:
  cnn2gnn sweep sparsity --search k --trials 12
  cnn2gnn sweep recipe --search learning_rate kd_weight=0.3:0.9 loss=kd,dist --epochs 5 --jobs 2
  cnn2gnn sweep big --search k graph --storage postgresql://host/studies --trials 100
"""
NOTEBOOKS = """\
What lies in the folder already is kept, and said so where it differs.
"""
LAB = """\
Runs and reports lie below the folder in which you start it, as those of `cnn2gnn run`.

examples:
  cnn2gnn lab
  cnn2gnn lab mine --no-browser --port=8889
      other options are JupyterLab's
"""
EXPORT = """\
Both programs take raw samples and do all there is to do: normalisation, stem, the exact search in
the bank, the graph layers. `student.json` says what goes in and comes out. Each program is
compared with the run's predictor on test samples before anything is written.

examples:
  cnn2gnn export demo
      into exports/demo/
  python exports/demo/classify.py digit.png
      needs numpy, onnxruntime and Pillow alone
"""
CARD = """\
What the run is, its data, accuracy, cost, the command that repeats it, its limits: Markdown, with
the head that Hugging Face reads. `cnn2gnn report` and `run` write it along with the report.

examples:
  cnn2gnn card demo
      into reports/demo/model-card.md
"""
