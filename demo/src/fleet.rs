//! The instances: tasks of this process, or separate processes.

use std::io::{BufReader, BufWriter, Write};
use std::process::{Child, Command as Program, Stdio};

use async_cache::MemoryBackend;
use tokio::sync::mpsc;

use crate::instance::Instance;
use crate::messages::{Command, Message, Setup};
use crate::traffic::Apart;

/// Messages on their way to the referee. A full queue delays the instances.
const QUEUE: usize = 64;
/// The argument that makes a process an instance.
pub(crate) const INSTANCE: &str = "__instance";

const WIRE: bincode::config::Configuration = bincode::config::standard();

/// The instances, and the channels to them.
pub(crate) struct Fleet {
    pub(crate) commands: Vec<mpsc::Sender<Command>>,
    pub(crate) messages: mpsc::Receiver<(u16, Message)>,
    children: Children,
}

impl Fleet {
    /// Starts each instance as a task of this process.
    pub(crate) async fn tasks(setups: Vec<Setup>) -> Result<Self, String> {
        let (sender, messages) = mpsc::channel(QUEUE);
        let rows = setups.first().map_or(0, |setup| u64::from(setup.products + Apart::COUNT));
        let memory = MemoryBackend::new(rows);
        let mut commands = Vec::new();
        for setup in setups {
            let index = setup.index;
            let (out, mut said) = mpsc::channel(QUEUE);
            let instance = Instance::start(setup, Some(memory.clone()), out).await?;
            let (command, orders) = mpsc::channel(QUEUE);
            commands.push(command);
            tokio::spawn(instance.run(orders));
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(message) = said.recv().await {
                    if sender.send((index, message)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { commands, messages, children: Children::default() })
    }

    /// Starts each instance as a process.
    pub(crate) fn processes(setups: Vec<Setup>) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let (sender, messages) = mpsc::channel(QUEUE);
        let mut children = Children::default();
        let mut commands = Vec::new();
        for setup in setups {
            let mut child = Program::new(&program)
                .arg(INSTANCE)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| format!("cannot start instance {}: {error}", setup.index))?;
            let input = child.stdin.take().expect("it was asked for");
            let output = child.stdout.take().expect("it was asked for");
            children.0.push(child);
            let (command, orders) = mpsc::channel(QUEUE);
            commands.push(command);
            let index = setup.index;
            std::thread::spawn(move || send(input, &setup, orders));
            let sender = sender.clone();
            std::thread::spawn(move || hear(output, index, &sender));
        }
        Ok(Self { commands, messages, children })
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// The channels of the instances, and their processes.
    pub(crate) fn into_parts(self) -> (Vec<mpsc::Sender<Command>>, mpsc::Receiver<(u16, Message)>, Children) {
        (self.commands, self.messages, self.children)
    }
}

/// The processes of the instances. They are killed when this is dropped.
#[derive(Default)]
pub(crate) struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a process its setup, then its orders.
fn send(input: impl Write, setup: &Setup, mut orders: mpsc::Receiver<Command>) {
    let mut input = BufWriter::new(input);
    let mut write = |thing: &dyn Fn(&mut BufWriter<_>) -> bool| thing(&mut input) && input.flush().is_ok();
    let mut alive = write(&|input| bincode::serde::encode_into_std_write(setup, input, WIRE).is_ok());
    while let Some(order) = orders.blocking_recv().filter(|_| alive) {
        alive = write(&|input| bincode::serde::encode_into_std_write(&order, input, WIRE).is_ok());
    }
}

/// Reads the messages of a process until its output ends, and sends them to the referee.
fn hear(output: impl std::io::Read, index: u16, sender: &mpsc::Sender<(u16, Message)>) {
    let mut output = BufReader::new(output);
    loop {
        let message = bincode::serde::decode_from_std_read(&mut output, WIRE)
            .unwrap_or_else(|_| Message::Failed(format!("instance {index} has ended unexpectedly")));
        let last = matches!(message, Message::Finished | Message::Failed(_));
        if sender.blocking_send((index, message)).is_err() || last {
            return;
        }
    }
}

/// Runs an instance as a process. Its input brings the orders, and it ends with its input.
pub(crate) fn be_an_instance() -> Result<(), String> {
    let mut input = BufReader::new(std::io::stdin());
    let setup: Setup = bincode::serde::decode_from_std_read(&mut input, WIRE)
        .map_err(|error| format!("an instance is started by the demo itself: {error}"))?;
    let (command, orders) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        while let Ok(order) = bincode::serde::decode_from_std_read(&mut input, WIRE) {
            if command.blocking_send(order).is_err() {
                return;
            }
        }
    });
    let (out, mut said) = mpsc::channel::<Message>(QUEUE);
    let talking = std::thread::spawn(move || {
        let mut output = BufWriter::new(std::io::stdout());
        while let Some(message) = said.blocking_recv() {
            let sent = bincode::serde::encode_into_std_write(message, &mut output, WIRE).is_ok();
            if !sent || output.flush().is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    runtime.block_on(async {
        match Instance::start(setup, None, out.clone()).await {
            Ok(instance) => instance.run(orders).await,
            Err(error) => {
                let _ = out.send(Message::Failed(error)).await;
            }
        }
    });
    drop((out, runtime));
    let _ = talking.join();
    Ok(())
}
